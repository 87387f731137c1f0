// Emits with the npm package @socket.io/redis-emitter what the lines of its input say, and then answers with a line.
//   usage: node emitter.mjs REDIS_URL
// {"to": [...], "except": [...], "event": ..., "arguments": [...], "buffer": base64, "date": ms, "nsp": ...}
import { createInterface } from "node:readline";

import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";

const client = createClient({ url: process.argv[2] });
await client.connect();
// The emitter does not wait for Redis; whoever drives this does.
let sent = Promise.resolve();
const emitter = new Emitter({ publish: (channel, message) => (sent = client.publish(channel, message)) });

console.log(JSON.stringify({ event: "connected" }));
for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let operator = asked.nsp ? emitter.of(asked.nsp) : emitter;
  if (asked.to) operator = operator.to(asked.to);
  if (asked.except) operator = operator.except(asked.except);
  if (asked.volatile) operator = operator.volatile.compress(true);
  const more = asked.buffer ? [Buffer.from(asked.buffer, "base64")] : asked.date ? [{ at: new Date(asked.date) }] : [];
  operator.emit(asked.name, ...(asked.arguments ?? []), ...more);
  if (asked.join) emitter.in("somewhere").socketsJoin(asked.join);
  await sent;
  console.log(JSON.stringify({ event: "emitted", name: asked.name }));
}
await client.quit();
