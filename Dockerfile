# An image with prox and its locked dependencies, run by a user without privileges. The configuration and the plugins are
# mounted at /etc/prox; see docs/how-to/deploy.md.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build

# Dependencies first: this layer stays while the source changes. All of them are wheels; only prox's own hot path is compiled,
# by mypyc, which is in requirements/dev.txt.
COPY requirements/build.txt requirements/dev.txt requirements/runtime.txt requirements/
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/* \
 && python -m venv /build/tools \
 && /build/tools/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt -r requirements/dev.txt \
 && python -m venv /opt/prox \
 && /opt/prox/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.txt

COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
RUN PROX_COMPILE=1 /build/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheels . \
 && /opt/prox/bin/pip install --no-deps --no-index /build/wheels/*.whl \
 && /opt/prox/bin/prox version

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin prox
COPY --from=build /opt/prox /opt/prox
# First, so that plugins that begin with `#!/usr/bin/env python3` find the SDK.
ENV PATH=/opt/prox/bin:$PATH
USER prox
WORKDIR /etc/prox
# SIGTERM, which is what `docker stop` sends, lets running requests end.
ENTRYPOINT ["prox", "serve"]
CMD ["-c", "/etc/prox/config.json5"]
