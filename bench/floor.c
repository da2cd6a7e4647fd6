/* The floor: what receiving and passing on a message costs when nothing else is done.
 *
 * One epoll loop. Connections belong to groups in the order they come: 0…SIZE-1 are the first group. IN bytes from a
 * member are one message; for it the bytes of OUT_FILE go to each other member. That is one receive and one send with
 * groups of two, and in larger ones a receive and SIZE-1 sends. Prints its port, runs until it is killed.
 *
 * usage: floor SIZE IN OUT_FILE
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

enum { MAX = 4096, BUFFER = 65536 };

static int sockets[MAX];   /* by order of arrival */
static size_t received[MAX]; /* bytes of the message that is under way */
static int arrived;
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

static void pass_on(int from, int size, size_t length) {
    int first = from - from % size;
    for (int to = first; to < first + size && to < arrived; to++) {
        if (to == from) continue;
        if (send(sockets[to], out, length, MSG_NOSIGNAL) != (ssize_t)length) fail("send");
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: floor SIZE IN OUT_FILE\n");
        return 2;
    }
    int size = atoi(argv[1]);
    size_t expected = (size_t)atol(argv[2]), length = read_file(argv[3]);
    int listener = open_listener(), poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = MAX}, ready[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            unsigned index = ready[i].data.u32;
            if (index == MAX) {
                int one = 1, accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (accepted < 0 || arrived == MAX) fail("accept");
                setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.data.u32 = (unsigned)arrived;
                sockets[arrived++] = accepted;
                epoll_ctl(poll, EPOLL_CTL_ADD, accepted, &event);
                continue;
            }
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
