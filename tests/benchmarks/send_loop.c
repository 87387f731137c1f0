/* The limit: one thread that calls send() for every subscriber, and nothing else.
 *
 * usage: send_loop SUBSCRIBERS PAYLOAD ROUNDS
 * Opens SUBSCRIBERS TCP connections over loopback to itself, sends PAYLOAD bytes to each one ROUNDS times from this
 * process, while a child process reads them. Prints the CPU time per send() in microseconds of this process alone.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
}

/* The child: connects, then reads until every byte has arrived, telling the parent after each round. */
static void read_all(unsigned short port, int subscribers, int payload, int rounds, int report) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int poller = epoll_create1(0);
    for (int i = 0; i < subscribers; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
    static char buffer[65536];
    for (int round = 0; round < rounds; round++) {
        long expected = (long)subscribers * payload;
        while (expected > 0) {
            struct epoll_event events[256];
            int ready = epoll_wait(poller, events, 256, 10000);
            if (ready <= 0) fail("epoll_wait");
            for (int i = 0; i < ready; i++) {
                ssize_t got = read(events[i].data.fd, buffer, sizeof buffer);
                if (got <= 0) fail("read");
                expected -= got;
            }
        }
        if (write(report, "r", 1) != 1) fail("report");
    }
    exit(0);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: send_loop SUBSCRIBERS PAYLOAD ROUNDS\n");
        return 2;
    }
    int subscribers = atoi(argv[1]), payload = atoi(argv[2]), rounds = atoi(argv[3]);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(listener, 4096) < 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    int report[2];
    if (pipe(report) < 0) fail("pipe");
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) read_all(ntohs(address.sin_port), subscribers, payload, rounds, report[1]);

    int *sockets = malloc(sizeof(int) * (size_t)subscribers);
    char *message = malloc((size_t)payload);
    memset(message, 'x', (size_t)payload);
    int one = 1;
    for (int i = 0; i < subscribers; i++) {
        sockets[i] = accept(listener, NULL, NULL);
        if (sockets[i] < 0) fail("accept");
        /* As asyncio does for every TCP socket. */
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    double start = cpu_seconds();
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < subscribers; i++)
            if (send(sockets[i], message, (size_t)payload, 0) != payload) fail("send");
        char done;
        if (read(report[0], &done, 1) != 1) fail("report");
    }
    printf("%.4f\n", (cpu_seconds() - start) / rounds / subscribers * 1e6);
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
