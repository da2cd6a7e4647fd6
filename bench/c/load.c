/* The load of relayed messages: each sending client has at most one message outstanding.
 *
 * Takes over connected sockets (file descriptors, in groups of SIZE) and one ready-made client frame per sender. A
 * group's first SENDERS members send; in groups of two with two senders each sends to the other. With RATE 0 a sender
 * sends its next message when all its receivers have the last one; otherwise RATE messages a second are sent by all
 * senders together, in turn, and a latency is the time from the planned sending to the last delivery. A delivery is a
 * text frame with the marker "Ada Lovelace " and the sender's number within its group; other frames are skipped, pings
 * are answered. Prints deliveries, messages, seconds, and the latencies in microseconds.
 *
 * usage: load SECONDS RATE SIZE SENDERS FRAMES_FILE FD…      FRAMES_FILE: per sender 4 bytes length (LE), frame
 */
#define _GNU_SOURCE /* memmem */
#include "pace.h"

static const char marker[] = "Ada Lovelace ";

struct client {
    struct connection connection;
    int outstanding;      /* receivers without the message so far */
    struct block *frame;  /* its message; NULL: it only receives */
    double planned;       /* time of sending */
};

static struct client *clients;
static int client_count, group_size, senders;
static uint64_t deliveries, messages;
static double rate;
static int stopping, busy; /* busy: messages outstanding */

static void send_message(struct client *client, double planned) {
    client->planned = planned;
    client->outstanding = group_size - 1;
    messages++;
    busy++;
    send_all(client->connection.socket, client->frame->bytes, client->frame->length);
}

static int find_sender(int index, const char *number) {
    int member = index % group_size, first = index - member;
    if (senders == 1) return first;
    if (group_size == 2) return first + 1 - member;
    return first + atoi(number) % group_size;
}

static void on_text(int index, const char *payload, size_t length) {
    const char *found = memmem(payload, length, marker, sizeof marker - 1);
    if (!found) return;
    struct client *sender = &clients[find_sender(index, found + sizeof marker - 1)];
    deliveries++;
    if (sender->outstanding <= 0) refuse("an unexpected delivery");
    if (--sender->outstanding > 0) return;
    busy--;
    if (rate > 0) keep_latency(now() - sender->planned);
    else if (!stopping) send_message(sender, 0);
}

/* Sends the due messages; a message that finds no idle sender stays due. */
static void send_due(uint64_t *due, double *next) {
    static int turn;
    for (int tried = 0; *due && tried < client_count; tried++) {
        struct client *client = &clients[turn];
        turn = (turn + 1) % client_count;
        if (!client->frame || client->outstanding > 0) continue;
        send_message(client, *next);
        *next += 1 / rate;
        --*due;
        tried = 0;
    }
}

int main(int argc, char **argv) {
    if (argc < 8) refuse("usage: load SECONDS RATE SIZE SENDERS FRAMES_FILE FD…");
    double seconds = atof(argv[1]);
    rate = atof(argv[2]);
    group_size = atoi(argv[3]);
    senders = atoi(argv[4]);
    client_count = argc - 6;
    size_t frame_count = (size_t)(client_count / group_size * senders);
    struct block *frames = read_blocks(argv[5], &frame_count);
    int poll = epoll_create1(0);
    if (!(clients = calloc((size_t)client_count, sizeof *clients)) || poll < 0) fail("start");
    for (int i = 0; i < client_count; i++) {
        clients[i].connection.socket = atoi(argv[6 + i]);
        fcntl(clients[i].connection.socket, F_SETFL, O_NONBLOCK);
        watch(poll, clients[i].connection.socket, (uint32_t)i);
        if (i % group_size < senders) clients[i].frame = frames++;
    }

    double start = now(), end = start + seconds, next = start + (rate > 0 ? 1 / rate : 0);
    uint64_t due = 0;
    int timer = open_timer(rate);
    if (timer >= 0) watch(poll, timer, (uint32_t)client_count);
    else
        for (int i = 0; i < client_count; i++)
            if (clients[i].frame) send_message(&clients[i], 0);
    struct epoll_event ready[256];
    while (busy || !stopping) {
        int count = epoll_wait(poll, ready, 256, 20000);
        if (count == 0) {
            fprintf(stderr, "no delivery for twenty seconds: %llu messages, %llu deliveries, %d outstanding\n",
                    (unsigned long long)messages, (unsigned long long)deliveries, busy);
            return 1;
        }
        for (int i = 0; i < count; i++) {
            int index = (int)ready[i].data.u32;
            if (index == client_count) {
                due += expirations(timer);
                continue;
            }
            receive(&clients[index].connection);
            take_frames(&clients[index].connection, index, on_text);
            if (clients[index].connection.closed) refuse("the server sent a close frame");
        }
        stopping = now() >= end;
        if (rate > 0 && !stopping) send_due(&due, &next);
    }
    printf("%llu %llu %.6f", (unsigned long long)deliveries, (unsigned long long)messages, now() - start);
    print_latencies();
    return 0;
}
