// Node's `ws`, with its documented way to broadcast. usage: node ws.mjs PORT
// /sub/CHANNEL receives what is sent to /pub/CHANNEL.
import { WebSocketServer, WebSocket } from "ws";

const channels = new Map();
// As the default is, said all the same: compression would be what is measured.
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false });

server.on("connection", (socket, request) => {
  const [, role, name] = request.url.split("/");
  if (!channels.has(name)) channels.set(name, new Set());
  const clients = channels.get(name);
  socket.on("error", console.error);
  if (role === "pub") {
    socket.on("message", (data, isBinary) => {
      for (const client of clients) {
        if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
      }
    });
    return;
  }
  clients.add(socket);
  socket.on("close", () => clients.delete(socket));
});
