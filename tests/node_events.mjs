// What the packages of npm say of documents and events: one JSON object on standard input, one on standard output.
import { readFileSync } from "node:fs";

const asked = JSON.parse(readFileSync(0, "utf8"));
let answer;
if (asked.asyncapi) {
  const { Parser } = (await import("@asyncapi/parser")).default;
  const { document, diagnostics } = await new Parser().parse(JSON.stringify(asked.asyncapi));
  answer = {
    problems: diagnostics.filter((found) => found.severity <= 1).map((found) => `${found.path.join(".")}: ${found.message}`),
    operations: document ? document.operations().all().map((operation) => operation.id()) : null,
  };
} else {
  const { CloudEvent, HTTP } = (await import("cloudevents")).default;
  if (asked.read) {
    const read = HTTP.toEvent(asked.read);
    const data = read.data_base64 ?? read.data;
    answer = { ...read.toJSON(), data, valid: read.validate() };
  } else {
    const event = new CloudEvent(asked.write);
    const message = asked.form === "binary" ? HTTP.binary(event) : HTTP.structured(event);
    answer = { headers: message.headers, body: message.body };
  }
}
process.stdout.write(JSON.stringify(answer));
