// An upstream made with Node's own http server; see peers.py for what it serves.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const server = createServer((request, response) => {
  const path = request.url.split("?")[0];
  if (path === "/early") {
    response.writeHead(413, { "Content-Length": 0, Connection: "close" });
    response.end();
    return;
  }
  const hash = createHash("sha256");
  let size = 0;
  request.on("data", (data) => {
    hash.update(data);
    size += data.length;
  });
  request.on("end", () => {
    switch (path) {
      case "/empty":
        response.writeHead(204);
        response.end();
        break;
      case "/chunked":
        for (let number = 0; number < 20; number++) response.write(`${number}\n`);
        response.end();
        break;
      case "/trailers":
        response.writeHead(200, { Trailer: "X-Sum" });
        response.write("body");
        response.addTrailers({ "X-Sum": "abc" });
        response.end();
        break;
      case "/hints":
        response.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
        response.end("hints");
        break;
      case "/big":
        response.setHeader("Content-Length", 5_000_000);
        response.end(Buffer.alloc(5_000_000, "x"));
        break;
      case "/close":
        response.setHeader("Connection", "close");
        response.end("close");
        break;
      default: {
        const said = JSON.stringify({ method: request.method, path: request.url, size, sum: hash.digest("hex") });
        response.setHeader("Content-Length", said.length);
        response.end(said);
      }
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(`${server.address().port}`));
