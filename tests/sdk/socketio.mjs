// The unmodified npm package `socket.io-client` as a process. Commands on stdin and events on stdout, one JSON object a
// line. Buffers are {"base64": ...} on both sides.
//   usage: node socketio.mjs URL TOKEN [polling | websocket]
//   Without the last, as by default: polling first, then a WebSocket.
//   in:  {"emit": "event", "data": ...}, which is acknowledged | {"token": "the one to connect with"} | {"close": true}
//   out: {"event": "connected" | "upgraded" | "refused" | "disconnected" | "publication" | "acknowledged" | ..., ...}
import readline from "node:readline";
import { io } from "socket.io-client";

const [url, token, transport] = process.argv.slice(2);
const say = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
const decoded = (data) => (Buffer.isBuffer(data) ? { base64: data.toString("base64") } : data);
const encoded = (data) => (typeof data?.base64 === "string" ? Buffer.from(data.base64, "base64") : data);

const socket = io(url, {
  auth: { token },
  reconnectionDelay: 50,
  reconnectionDelayMax: 500,
  ...(transport ? { transports: [transport] } : {}),
});
socket.on("connect", () => {
  say("connected", { id: socket.id, transport: socket.io.engine.transport.name, recovered: socket.recovered });
});
socket.io.on("open", () => socket.io.engine.on("upgrade", ({ name }) => say("upgraded", { transport: name })));
socket.io.on("reconnect_attempt", () => say("reconnecting"));
// `active`: whether it tries again by itself.
socket.on("connect_error", ({ message, data }) => say("refused", { message, data, active: socket.active }));
socket.on("disconnect", (reason) => say("disconnected", { reason, active: socket.active }));
socket.onAny((name, ...data) => say("publication", { name, data: decoded(data[0]), count: data.length }));

const handlers = {
  emit({ emit: name, data }) {
    socket.emit(name, encoded(data), (answer) => say("acknowledged", { name, answer }));
  },
  token({ token: fresh }) {
    socket.auth = { token: fresh };
    socket.connect();
  },
  close() {
    socket.disconnect();
    process.exit(0);
  },
};

readline.createInterface({ input: process.stdin })
  .on("line", (line) => {
    const message = JSON.parse(line);
    handlers[Object.keys(message)[0]](message);
  })
  .on("close", () => process.exit(0));
