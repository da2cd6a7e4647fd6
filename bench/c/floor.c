/* The floor: receives and forwards messages and does nothing else.
 *
 * Accepts CONNECTIONS connections; in order of arrival, each SIZE of them form a group. Then one epoll loop: IN bytes
 * from a member are one message, for which the bytes of OUT_FILE go to each other member. That is one receive and one
 * send with groups of two, and a receive and SIZE-1 sends in larger ones. Prints its port, then "ready" when all are
 * connected; ends when they disconnect.
 *
 * usage: floor CONNECTIONS SIZE IN OUT_FILE
 */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX = 16384, BUFFER = 65536 };

static int sockets[MAX];     /* by order of arrival */
static size_t received[MAX]; /* bytes of the current message */
static char in[BUFFER], out[BUFFER];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static size_t read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    size_t length = fread(out, 1, sizeof out, file);
    fclose(file);
    return length;
}

static int open_listener(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) || listen(listener, MAX)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void accept_all(int listener, int count, int poll) {
    int one = 1;
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)i};
        sockets[i] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (sockets[i] < 0) fail("accept");
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, sockets[i], &event)) fail("epoll_ctl");
    }
    puts("ready");
    fflush(stdout);
}

static void pass_on(int from, int size, size_t length) {
    int first = from - from % size;
    for (int to = first; to < first + size; to++) {
        if (to == from) continue;
        if (send(sockets[to], out, length, MSG_NOSIGNAL) != (ssize_t)length) fail("send");
    }
}

int main(int argc, char **argv) {
    if (argc != 5 || atoi(argv[1]) > MAX) {
        fprintf(stderr, "usage: floor CONNECTIONS SIZE IN OUT_FILE\n");
        return 2;
    }
    int size = atoi(argv[2]), poll = epoll_create1(0);
    size_t expected = (size_t)atol(argv[3]), length = read_file(argv[4]);
    struct epoll_event ready[256];
    accept_all(open_listener(), atoi(argv[1]), poll);
    for (;;) {
        int count = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            unsigned index = ready[i].data.u32;
            ssize_t bytes = recv(sockets[index], in, sizeof in, 0);
            if (bytes < 0 && errno == EAGAIN) continue;
            if (bytes <= 0) return 0; /* the load has gone */
            received[index] += (size_t)bytes;
            while (received[index] >= expected) {
                received[index] -= expected;
                pass_on((int)index, size, length);
            }
        }
    }
}
