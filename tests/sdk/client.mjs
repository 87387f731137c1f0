// The unmodified npm SDK as a process. Commands on stdin and events on stdout, one JSON object a line.
//   usage: node client.mjs URL TOKEN [TRANSPORT EMULATION_URL]
//   TRANSPORT is "sse" or "http_stream", whose commands go to the other URL; without it, a WebSocket.
//   in:  {"subscribe": "channel", "token": ..., "delta": "fossil"} | {"deltas": "channel"} | {"publish": "channel", "data": ...} | {"close": true}
//        {"subscribe": "channel", "state": true} asks with the event "state" for {"position": {"offset", "epoch"}}
//   out: {"event": "connected" | "subscribed" | "publication" | "published" | "error" | ..., ...}
import readline from "node:readline";
import { Centrifuge } from "centrifuge";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const [url, token, transport, emulationEndpoint] = process.argv.slice(2);
const say = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
const options = { token: token || "", minReconnectDelay: 50, maxReconnectDelay: 500 };
const client = transport
  ? new Centrifuge([{ transport, endpoint: url }], { ...options, emulationEndpoint, eventsource: EventSource, fetch, readableStream: ReadableStream })
  : new Centrifuge(url, { ...options, websocket: WebSocket });
client.on("connected", ({ client: id, data }) => say("connected", { id, data }));
client.on("connecting", ({ code, reason }) => say("connecting", { code, reason }));
client.on("disconnected", ({ code, reason }) => say("disconnected", { code, reason }));
client.on("error", ({ error }) => say("error", { code: error?.code, message: error?.message }));
client.on("publication", ({ channel, data }) => say("publication", { channel, data, server: true }));
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
    subscription.on("publication", ({ data, tags, info }) => say("publication", { channel, data, tags, user: info?.user }));
    subscription.subscribe();
  },
  position({ position }) { positioned(position); },
  async publish({ publish: channel, data }) {
    try {
      await client.publish(channel, data);
      say("published", { channel, data });
    } catch (error) {
      say("error", { channel, code: error.code, message: error.message });
    }
  },
  async rpc({ rpc: method, data }) {
    try {
      say("rpc", { data: (await client.rpc(method, data)).data });
    } catch (error) {
      say("error", { code: error.code, message: error.message });
    }
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
