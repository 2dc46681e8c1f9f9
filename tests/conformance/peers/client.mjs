// Sends the requests that stand on stdin as JSON with Node's own http client; see peers.py.
import { createHash } from "node:crypto";
import { Agent, request } from "node:http";

const base = process.argv[2];
const agent = new Agent({ keepAlive: true, maxSockets: 8 });

function send({ method, path, size, chunked, expect }) {
  return new Promise((resolve, reject) => {
    const headers = {};
    const body = Buffer.alloc(size, "x");
    const has = size > 0 || method === "POST";
    if (has && chunked) headers["Transfer-Encoding"] = "chunked";
    else if (has) headers["Content-Length"] = size;
    if (expect) headers.Expect = "100-continue";
    const sent = request(base + path, { method, headers, agent }, (answer) => {
      const pieces = [];
      answer.on("data", (data) => pieces.push(data));
      answer.on("error", reject);
      answer.on("end", () => {
        const all = Buffer.concat(pieces);
        const text = all.length < 1000 ? all.toString() : "";
        const sum = createHash("sha256").update(all).digest("hex");
        resolve({ status: answer.statusCode, size: all.length, sum, text, length: answer.headers["content-length"] });
      });
    });
    sent.on("error", reject);
    if (expect) {
      sent.on("continue", () => sent.end(body));
      sent.flushHeaders();
    } else if (chunked) {
      for (let at = 0; at < size; at += 1000) sent.write(body.subarray(at, at + 1000));
      sent.end();
    } else sent.end(has ? body : undefined);
  });
}

let input = "";
for await (const data of process.stdin) input += data;
const { one_by_one, at_once } = JSON.parse(input);
const answers = [];
for (const item of one_by_one) answers.push(await send(item));
answers.push(...(await Promise.all(at_once.map(send))));
console.log(JSON.stringify(answers));
agent.destroy();
