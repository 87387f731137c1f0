// Socket.IO with its Redis adapter. usage: node socketio.mjs PORT REDIS_URL
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const publisher = createClient({ url: process.argv[3] });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  adapter: createAdapter(publisher, subscriber),
});

// What the documentation advises where the HTTP request is not needed any more, to save memory.
io.engine.on("connection", (socket) => {
  socket.request = null;
});

io.on("connection", (socket) => {
  socket.on("subscribe", async (channel, done) => {
    await socket.join(channel);
    done();
  });
  socket.on("publish", (channel, text, done) => {
    io.to(channel).emit("message", text);
    done();
  });
});

http.listen(Number(process.argv[2]), "127.0.0.1", 4096);
