/* The limit of every server that calls send() for each subscriber: it does nothing else.
 *
 * usage: send_loop PORT
 * WebSocket connections to /sub/CHANNEL on 127.0.0.1 receive what those to /pub/CHANNEL send, as frames that are built
 * once per publication. No limits, no timeouts, no answer to pings: it is a measure, not a server. Ends with SIGTERM.
 */
/* strcasestr */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ = 65536, NAME = 256, EVENTS = 256 };

struct channel {
    char name[NAME];
    int *subscribers;
    size_t count, room;
    struct channel *next;
};

/* By file descriptor. */
struct connection {
    struct channel *channel;
    int upgraded, publishes;
    size_t have;
    /* What has come of a request or a frame that is not whole; made when there is some. */
    unsigned char *rest;
};

static struct channel *buckets[65536];
static struct connection *connections;
static size_t most;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *grown(void *memory, size_t size) {
    void *made = realloc(memory, size);
    if (!made) fail("realloc");
    return made;
}

/* SHA-1 (RFC 3174) of a text of at most 119 bytes. */
static uint32_t rolled(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

static void sha1(const char *text, size_t length, unsigned char digest[20]) {
    unsigned char blocks[128] = {0};
    size_t size = length < 56 ? 64 : 128;
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    memcpy(blocks, text, length);
    blocks[length] = 0x80;
    for (int i = 0; i < 4; i++) blocks[size - 1 - i] = (unsigned char)((uint64_t)length * 8 >> 8 * i);
    for (unsigned char *block = blocks; block < blocks + size; block += 64) {
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = rolled(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                         : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                         : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                                  : (b ^ c ^ d) + 0xCA62C1D6;
            uint32_t next = rolled(a, 5) + f + e + w[i];
            e = d, d = c, c = rolled(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* Sec-WebSocket-Accept of a key (RFC 6455 section 4.2.2). */
static void accepted(const char *key, size_t length, char text[29]) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char joined[120];
    unsigned char digest[21] = {0};
    int size = snprintf(joined, sizeof joined, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", (int)length, key);
    sha1(joined, (size_t)size, digest);
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)digest[3 * i] << 16 | digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++) text[4 * i + j] = alphabet[three >> (18 - 6 * j) & 63];
    }
    text[27] = '=';
    text[28] = 0;
}

static struct channel *named(const char *name, size_t length) {
    uint32_t hash = 5381;
    for (size_t i = 0; i < length; i++) hash = hash * 33 ^ (unsigned char)name[i];
    struct channel **place = &buckets[hash & 65535];
    while (*place && (strncmp((*place)->name, name, length) || (*place)->name[length])) place = &(*place)->next;
    if (!*place) {
        *place = grown(NULL, sizeof **place);
        memset(*place, 0, sizeof **place);
        memcpy((*place)->name, name, length);
    }
    return *place;
}

static void left(int socket) {
    struct connection *connection = &connections[socket];
    struct channel *channel = connection->channel;
    if (channel && !connection->publishes)
        for (size_t i = 0; i < channel->count; i++)
            if (channel->subscribers[i] == socket) {
                channel->subscribers[i] = channel->subscribers[--channel->count];
                break;
            }
    free(connection->rest);
    memset(connection, 0, sizeof *connection);
    close(socket);
}

/* Bytes of the request that are done with; 0 when it is not whole, -1 when it is none. */
static long upgrade(int socket, struct connection *connection, char *bytes, size_t length) {
    bytes[length] = 0;
    char *end = strstr(bytes, "\r\n\r\n"), *key = strcasestr(bytes, "\r\nsec-websocket-key:");
    if (!end) return 0;
    connection->publishes = !strncmp(bytes, "GET /pub/", 9);
    char *name = bytes + 9;
    size_t size = strcspn(name, " ?\r\n");
    if ((!connection->publishes && strncmp(bytes, "GET /sub/", 9)) || !key || size >= NAME) return -1;
    key += 20;
    key += strspn(key, " ");
    char accept[29], answer[256];
    size_t key_length = strcspn(key, "\r\n ");
    if (key_length > 64) return -1;
    accepted(key, key_length, accept);
    struct channel *channel = connection->channel = named(name, size);
    if (!connection->publishes) {
        if (channel->count == channel->room) {
            channel->room = channel->room ? channel->room * 2 : 4;
            channel->subscribers = grown(channel->subscribers, channel->room * sizeof(int));
        }
        channel->subscribers[channel->count++] = socket;
    }
    connection->upgraded = 1;
    int written = snprintf(answer, sizeof answer,
                           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    if (send(socket, answer, (size_t)written, MSG_NOSIGNAL) != written) return -1;
    return end + 4 - bytes;
}

/* The same for one frame (RFC 6455 section 5.2). */
static long frame(struct connection *connection, unsigned char *bytes, size_t length) {
    static unsigned char made[READ + 4];
    if (length < 2) return 0;
    size_t size = bytes[1] & 127, head = 2;
    if (size == 127 || !(bytes[1] & 128) || (bytes[0] & 15) == 8) return -1;
    if (size == 126) {
        if (length < 4) return 0;
        size = (size_t)bytes[2] << 8 | bytes[3];
        head = 4;
    }
    if (size + head + 4 >= READ) return -1;
    if (length < head + 4 + size) return 0;
    if ((bytes[0] & 15) > 2 || !connection->publishes) return (long)(head + 4 + size);
    unsigned char *mask = bytes + head, *out = made + head;
    memcpy(made, bytes, head);
    made[1] &= 127;
    for (size_t i = 0; i < size; i++) out[i] = mask[4 + i] ^ mask[i & 3];
    struct channel *channel = connection->channel;
    for (size_t i = 0; i < channel->count; i++)
        /* A subscriber that has gone is noticed when it is read from. */
        (void)!send(channel->subscribers[i], made, head + size, MSG_NOSIGNAL);
    return (long)(head + 4 + size);
}

static void readable(int socket) {
    static unsigned char buffer[READ + 1];
    struct connection *connection = &connections[socket];
    if (connection->have) memcpy(buffer, connection->rest, connection->have);
    ssize_t count = recv(socket, buffer + connection->have, READ - connection->have, 0);
    if (count <= 0) {
        left(socket);
        return;
    }
    size_t have = connection->have + (size_t)count, done = 0;
    while (done < have) {
        long step = connection->upgraded ? frame(connection, buffer + done, have - done)
                                         : upgrade(socket, connection, (char *)buffer + done, have - done);
        if (step < 0) {
            left(socket);
            return;
        }
        if (!step) break;
        done += (size_t)step;
    }
    connection->have = have - done;
    if (connection->have) {
        connection->rest = grown(connection->rest, connection->have);
        memcpy(connection->rest, buffer + done, connection->have);
    }
}

static void taken(int listener, int poll) {
    int socket = accept(listener, NULL, NULL), one = 1;
    if (socket < 0) return;
    if ((size_t)socket >= most) {
        close(socket);
        return;
    }
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event) < 0) fail("epoll_ctl");
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: send_loop PORT\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    most = limit.rlim_cur > 1000000 ? 1000000 : limit.rlim_cur;
    connections = calloc(most, sizeof *connections);
    if (!connections) fail("calloc");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(listener, 4096) < 0) fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event) < 0) fail("epoll_ctl");
    for (;;) {
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                taken(listener, poll);
            else
                readable(events[i].data.fd);
        }
    }
}
