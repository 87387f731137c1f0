// What the parsers of Socket.IO and Engine.IO make of messages: JSON in, JSON out. Bytes are {"base64": "..."}.
import { decodePacket, decodePayload, encodePayload } from "engine.io-parser";
import { Decoder, Encoder } from "socket.io-parser";

const bytes = ({ base64 }) => Buffer.from(base64, "base64");
const isBytes = (value) => value !== null && typeof value === "object" && typeof value.base64 === "string";
const shown = (value) => Buffer.isBuffer(value) ? { base64: value.toString("base64") } : value;

// The same value with fn(part) for each part that it wants to replace.
function mapped(value, fn) {
  const replaced = fn(value);
  if (replaced !== value || value === null || typeof value !== "object") return replaced;
  if (Array.isArray(value)) return value.map((part) => mapped(part, fn));
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, mapped(part, fn)]));
}

// The packets in the messages of one connection, up to the first error.
function decoded(messages) {
  const packets = [];
  const decoder = new Decoder();
  decoder.on("decoded", (packet) => packets.push(mapped(packet, shown)));
  try {
    for (const message of messages) decoder.add(isBytes(message) ? bytes(message) : message);
  } catch (error) {
    return { packets, error: error.message };
  }
  return { packets };
}

const enginePacket = ({ type, data }) => ({ type, data: shown(data) });
const body = (packets) => {
  let text;
  encodePayload(packets, (encoded) => { text = encoded; });
  return text;
};

let input = "";
for await (const chunk of process.stdin.setEncoding("utf8")) input += chunk;
const asked = JSON.parse(input);
console.log(JSON.stringify({
  decoded: asked.decode.map(decoded),
  encoded: asked.encode.map((packet) => new Encoder()
    .encode(mapped(packet, (value) => isBytes(value) ? bytes(value) : value)).map(shown)),
  messages: asked.messages.map((text) => enginePacket(decodePacket(text))),
  // As its server reads a request.
  bodies: asked.bodies.map((data) => decodePayload(bytes(data).toString("utf8")).map(enginePacket)),
  written: asked.write.map((packets) => body(packets.map(
    ({ type, data }) => ({ type, data: isBytes(data) ? bytes(data) : data })))),
}));
