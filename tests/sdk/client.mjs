// The unmodified npm SDK as a process. Commands on stdin and events on stdout, one JSON object a line.
//   usage: node client.mjs URL TOKEN [json | protobuf] [refresh] [http_stream=EMULATION_URL | sse=EMULATION_URL]
//   Without the last, over a WebSocket.
//   in:  {"subscribe": "channel", "token": ..., "delta": "fossil"} | {"deltas": "channel"} | {"publish": "channel", "data": ...} | {"close": true}
//        {"presence": "channel"} | {"history": "channel"} | {"rpc": "method", "data": ...} | {"token": "the fresh token", which is asked for with the event "token"}
//        {"subscribe": "channel", "state": true} asks with the event "state" for {"position": {"offset", "epoch"}}
//   out: {"event": "connected" | "subscribed" | "publication" | "published" | "error" | ..., ...}
import readline from "node:readline";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const [url, token, encoding, ...rest] = process.argv.slice(2);
const isProtobuf = encoding === "protobuf";
const { Centrifuge } = await import(isProtobuf ? "centrifuge/build/protobuf" : "centrifuge");
// Payloads are bytes in Protobuf. Those that are not JSON are shown in hexadecimal.
const encoded = (value) => (isProtobuf ? new TextEncoder().encode(JSON.stringify(value)) : value);
const decoded = (data) => {
  if (!isProtobuf || data === undefined || data === null) return data;
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch {
    return { hex: Buffer.from(data).toString("hex") };
  }
};
const say = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
let giveToken = null;
const getToken = () => new Promise((resolve) => { giveToken = resolve; say("token"); });
const options = { token: token || "", ...(rest.includes("refresh") ? { getToken } : {}), minReconnectDelay: 50, maxReconnectDelay: 500 };
const [transport, emulationEndpoint] = rest.find((option) => option.includes("="))?.split("=") ?? [];
const client = transport
  ? new Centrifuge([{ transport, endpoint: url }], { ...options, emulationEndpoint, eventsource: EventSource, fetch, readableStream: ReadableStream })
  : new Centrifuge(url, { ...options, websocket: WebSocket });
client.on("connected", ({ client: id, data }) => say("connected", { id, data: decoded(data) }));
client.on("connecting", ({ code, reason }) => say("connecting", { code, reason }));
client.on("disconnected", ({ code, reason }) => say("disconnected", { code, reason }));
client.on("error", ({ error }) => say("error", { code: error?.code, message: error?.message }));
client.on("publication", ({ channel, data }) => say("publication", { channel, data: decoded(data), server: true }));
client.on("subscribed", ({ channel }) => say("subscribed", { channel, server: true }));

const subscriptions = {};
let positioned = null;
const handlers = {
  subscribe({ subscribe: channel, token: subscriptionToken, delta, state }) {
    const getState = () => new Promise((resolve) => { positioned = resolve; say("state", { channel }); });
    const subscription = client.newSubscription(channel, {
      ...(subscriptionToken ? { token: subscriptionToken } : {}),
      ...(delta ? { delta } : {}),
      ...(state ? { getState } : {}),
    });
    subscriptions[channel] = subscription;
    subscription.on("subscribed", ({ wasRecovering: recovering, recovered }) => say("subscribed", { channel, recovering, recovered }));
    subscription.on("subscribing", ({ code, reason }) => say("subscribing", { channel, code, reason }));
    subscription.on("unsubscribed", ({ code, reason }) => say("unsubscribed", { channel, code, reason }));
    subscription.on("error", ({ error }) => say("error", { channel, code: error?.code, message: error?.message }));
    subscription.on("publication", ({ data, tags, info }) => say("publication", { channel, data: decoded(data), tags, user: info?.user }));
    subscription.subscribe();
  },
  position({ position }) { positioned(position); },
  async publish({ publish: channel, data }) {
    try {
      await client.publish(channel, encoded(data));
      say("published", { channel, data });
    } catch (error) {
      say("error", { channel, code: error.code, message: error.message });
    }
  },
  async rpc({ rpc: method, data }) {
    try {
      say("rpc", { data: decoded((await client.rpc(method, encoded(data))).data) });
    } catch (error) {
      say("error", { code: error.code, message: error.message });
    }
  },
  token({ token: fresh }) { giveToken(fresh); },
  async presence({ presence: channel }) {
    const { clients } = await client.presence(channel);
    const { numClients } = await client.presenceStats(channel);
    const info = Object.values(clients).map(({ user, connInfo }) => ({ user, info: decoded(connInfo) }));
    say("presence", { clients: info, count: numClients });
  },
  async history({ history: channel }) {
    const { publications, offset } = await client.history(channel, { limit: 100 });
    say("history", { data: publications.map(({ data }) => decoded(data)), offset: Number(offset) });
  },
  deltas({ deltas: channel }) {
    say("deltas", { count: subscriptions[channel].deltaStats().numDeltaPayloads });
  },
  close() {
    client.disconnect();
    process.exit(0);
  },
};

client.connect();
readline.createInterface({ input: process.stdin })
  .on("line", (line) => {
    const message = JSON.parse(line);
    handlers[Object.keys(message)[0]](message);
  })
  .on("close", () => process.exit(0));
