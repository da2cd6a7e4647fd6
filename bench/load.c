/* The load: keeps exactly one message outstanding per sending client for a number of seconds.
 *
 * Takes over connected sockets (file descriptors, in groups of SIZE) and one ready-made client frame per sender. A
 * group's first SENDERS members send; in groups of two with two senders each sends to the other. A sender sends its next
 * message when all its receivers have the last one. A delivery is a text frame of exactly EXPECTED payload
 * bytes; other frames are skipped, pings are answered. Prints deliveries, messages and seconds.
 *
 * usage: load SECONDS SIZE SENDERS EXPECTED FRAMES_FILE FD…      FRAMES_FILE: per sender 4 bytes length (LE), frame
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX = 4096, BUFFER = 16384, PING = 0x89, CLOSE = 0x88 };

struct client {
    int socket;
    int outstanding;       /* receivers without the message so far */
    char *frame;           /* what it sends; NULL: it only listens */
    size_t frame_length;
    size_t filled;
    unsigned char buffer[BUFFER];
};

static struct client *clients;
static int client_count, group_size, senders;
static uint64_t expected, deliveries, messages;
static int stopping, busy; /* busy: messages outstanding */

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void send_message(struct client *client) {
    if (send(client->socket, client->frame, client->frame_length, MSG_NOSIGNAL) != (ssize_t)client->frame_length)
        fail("send");
    client->outstanding = group_size - 1;
    messages++;
    busy++;
}

static void on_delivery(int index) {
    int member = index % group_size, first = index - member;
    struct client *sender = &clients[senders == 2 ? first + 1 - member : first];
    deliveries++;
    if (sender->outstanding <= 0) {
        fprintf(stderr, "an unexpected delivery\n");
        exit(1);
    }
    if (--sender->outstanding > 0) return;
    busy--;
    if (!stopping) send_message(sender);
}

static void answer_ping(struct client *client, const unsigned char *payload, size_t length) {
    unsigned char pong[131] = {0x8a, (unsigned char)(0x80 | length)}; /* masked with the key 0: the payload as it is */
    memcpy(pong + 6, payload, length);
    if (send(client->socket, pong, length + 6, MSG_NOSIGNAL) != (ssize_t)(length + 6)) fail("pong");
}

/* Returns the bytes that whole frames took. */
static size_t read_frames(int index) {
    struct client *client = &clients[index];
    size_t at = 0;
    while (client->filled - at >= 2) {
        const unsigned char *head = client->buffer + at;
        size_t header = 2;
        uint64_t length = head[1];
        if (length == 126) {
            if (client->filled - at < 4) break;
            length = (uint64_t)head[2] << 8 | head[3];
            header = 4;
        } else if (length > 126) {
            fprintf(stderr, "a frame that the load does not understand\n");
            exit(1);
        }
        if (client->filled - at < header + length) break;
        at += header + length;
        if (head[0] == PING) answer_ping(client, head + header, length);
        else if (head[0] == CLOSE) {
            fprintf(stderr, "the server closed a connection\n");
            exit(1);
        } else if (length == expected) on_delivery(index);
    }
    return at;
}

static void on_readable(int index) {
    struct client *client = &clients[index];
    ssize_t bytes = recv(client->socket, client->buffer + client->filled, BUFFER - client->filled, 0);
    if (bytes < 0 && errno == EAGAIN) return;
    if (bytes <= 0) fail("the server went away");
    client->filled += (size_t)bytes;
    size_t taken = read_frames(index);
    client->filled -= taken;
    if (client->filled) memmove(client->buffer, client->buffer + taken, client->filled);
}

static void read_frame(FILE *file, struct client *client) {
    uint32_t length;
    if (fread(&length, 4, 1, file) != 1 || !(client->frame = malloc(length))) fail("frames");
    client->frame_length = length;
    if (fread(client->frame, 1, length, file) != length) fail("frames");
}

int main(int argc, char **argv) {
    if (argc < 8) {
        fprintf(stderr, "usage: load SECONDS SIZE SENDERS EXPECTED FRAMES_FILE FD…\n");
        return 2;
    }
    double seconds = atof(argv[1]);
    group_size = atoi(argv[2]);
    senders = atoi(argv[3]);
    expected = strtoull(argv[4], NULL, 10);
    client_count = argc - 6;
    clients = calloc((size_t)client_count, sizeof *clients);
    FILE *file = fopen(argv[5], "rb");
    int poll = epoll_create1(0);
    if (!clients || !file || poll < 0 || client_count > MAX) fail("start");
    for (int i = 0; i < client_count; i++) {
        clients[i].socket = atoi(argv[6 + i]);
        fcntl(clients[i].socket, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)i};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, clients[i].socket, &event)) fail("epoll_ctl");
        if (i % group_size < senders) read_frame(file, &clients[i]);
    }
    fclose(file);

    double start = now(), end = start + seconds;
    for (int i = 0; i < client_count; i++)
        if (clients[i].frame) send_message(&clients[i]);
    struct epoll_event ready[256];
    while (busy) {
        int count = epoll_wait(poll, ready, 256, 5000);
        if (count == 0) {
            fprintf(stderr, "no delivery for five seconds, %d messages outstanding\n", busy);
            return 1;
        }
        for (int i = 0; i < count; i++) on_readable((int)ready[i].data.u32);
        stopping = now() >= end;
    }
    printf("%llu %llu %.6f\n", (unsigned long long)deliveries, (unsigned long long)messages, now() - start);
    return 0;
}
