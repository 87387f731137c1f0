/* The limit: a server that does nothing for a publication but call send() for every subscriber.
 *
 * usage: send_loop SUBSCRIBERS PAYLOAD
 * Prints its port. The first SUBSCRIBERS connections are answered as the gateway answers a WebSocket handshake and a
 * subscribe, so that the same clients read from both; whatever the next connection sends after its handshake makes
 * PAYLOAD bytes go to each subscriber. Ends when that connection ends.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char UPGRADED[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
/* A text frame of 24 bytes (RFC 6455 section 5.2). */
static const char SUBSCRIBED[] = "\x81\x18{\"id\":2,\"subscribe\":{}} ";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void answer(int socket, const char *text, size_t length) {
    char buffer[4096];
    if (recv(socket, buffer, sizeof buffer, 0) <= 0) fail("recv");
    if (send(socket, text, length, 0) != (ssize_t)length) fail("send");
}

static int upgraded(int listener) {
    int socket = accept(listener, NULL, NULL), one = 1;
    if (socket < 0) fail("accept");
    /* As asyncio does for every TCP socket. */
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    answer(socket, UPGRADED, sizeof UPGRADED - 1);
    return socket;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: send_loop SUBSCRIBERS PAYLOAD\n");
        return 2;
    }
    int subscribers = atoi(argv[1]), payload = atoi(argv[2]);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(listener, 4096) < 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    int *sockets = malloc(sizeof(int) * (size_t)subscribers);
    char *message = malloc((size_t)payload), buffer[4096];
    memset(message, 'x', (size_t)payload);
    for (int i = 0; i < subscribers; i++) {
        sockets[i] = upgraded(listener);
        answer(sockets[i], SUBSCRIBED, sizeof SUBSCRIBED - 1);
    }
    int publisher = upgraded(listener);
    while (recv(publisher, buffer, sizeof buffer, 0) > 0)
        for (int i = 0; i < subscribers; i++)
            if (send(sockets[i], message, (size_t)payload, 0) != payload) fail("send");
    return 0;
}
