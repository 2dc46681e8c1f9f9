#!/usr/bin/env python3
"""A plugin that lets in who brings a signed token (JWT), and tells the application who it is. Needs `pyjwt[crypto]`.

JWKS names a file with the public keys of the issuer, as its `/.well-known/jwks.json` has them; ISSUER and AUDIENCE
are what the token must say. None of them has a default, so that a plugin that was set up by halves does not start.
"""

import os
from pathlib import Path

import jwt

from prox.sdk import Plugin, Request, Verdict

KEYS = {key.key_id: key for key in jwt.PyJWKSet.from_json(Path(os.environ["JWKS"]).read_text()).keys}
ISSUER = os.environ["ISSUER"]
AUDIENCE = os.environ["AUDIENCE"]
ALGORITHMS = [
    "RS256",
    "ES256",
    "EdDSA",
]  # signatures alone: with HS256 a public key would be taken for a secret

plugin = Plugin()


@plugin.on_request
def authorize(request: Request) -> Verdict:
    """Called for each request of the routes that name this plugin."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return request.deny(401, "a token is needed\n", {"WWW-Authenticate": "Bearer"})
    try:
        claims = jwt.decode(
            token,
            KEYS[jwt.get_unverified_header(token).get("kid")],
            algorithms=ALGORITHMS,
            issuer=ISSUER,
            audience=AUDIENCE,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except (jwt.InvalidTokenError, KeyError) as error:
        plugin.log.info("refused", error=repr(error), client=request.client_ip)
        return request.deny(
            401, "the token is not good\n", {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        )
    return request.allow(headers={"X-User": claims["sub"], "X-Scope": str(claims.get("scope", ""))})


plugin.run()
