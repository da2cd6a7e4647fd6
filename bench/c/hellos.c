/* The load of hellos: AT_ONCE connections at a time, each from the connect to the close.
 *
 * Each connects, upgrades, receives the welcome, sends a ready-made hello, receives the reply, sends `bye` and waits for
 * its reply if BYE is 1, and closes. COUNT of them in all; they take the hellos of FRAMES_FILE in turn. With RATE 0 a
 * connection begins when another one ends; otherwise RATE a second begin, and a latency is the time from the planned
 * begin to the reply. A server that refuses ends the program with 1. Prints hellos, seconds, and the latencies in
 * microseconds.
 *
 * usage: hellos PORT AT_ONCE COUNT RATE BYE FRAMES_FILE       FRAMES_FILE: 4 bytes length (LE), frame, …
 */
#define _GNU_SOURCE /* memmem */
#include "pace.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

static const char upgrade[] =
    "GET /spreed HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
static const char bye[] = "\x81\x97\0\0\0\0{\"type\":\"bye\",\"bye\":{}}"; /* masked with the key 0 */

enum state { IDLE, UPGRADING, WELCOMED, GREETED, ENDED };

struct client {
    struct connection connection;
    enum state state;
    double begun;
    struct block *hello;
};

static struct client *clients;
static struct block *frames;
static size_t frame_count, begun, done;
static struct sockaddr_in address;
static int poll_set, says_bye;

static void begin(int index, double planned) {
    struct client *client = &clients[index];
    int one = 1;
    client->connection.socket = socket(AF_INET, SOCK_STREAM, 0);
    if (client->connection.socket < 0) fail("socket");
    client->begun = planned;
    client->state = UPGRADING;
    client->hello = &frames[begun % frame_count];
    client->connection.filled = 0;
    client->connection.closed = 0;
    if (connect(client->connection.socket, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(client->connection.socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(client->connection.socket, F_SETFL, O_NONBLOCK);
    watch(poll_set, client->connection.socket, (uint32_t)index);
    send_all(client->connection.socket, upgrade, sizeof upgrade - 1);
    begun++;
}

static int contains(const char *payload, size_t length, const char *text) {
    return memmem(payload, length, text, strlen(text)) != NULL;
}

static void on_text(int index, const char *payload, size_t length) {
    struct client *client = &clients[index];
    if (contains(payload, length, "\"type\":\"error\"")) {
        fprintf(stderr, "%.*s\n", (int)length, payload);
        exit(1);
    }
    if (client->state == UPGRADING && contains(payload, length, "\"type\":\"welcome\"")) {
        client->state = WELCOMED;
        send_all(client->connection.socket, client->hello->bytes, client->hello->length);
    } else if (client->state == WELCOMED && contains(payload, length, "\"type\":\"hello\"")) {
        keep_latency(now() - client->begun);
        client->state = says_bye ? GREETED : ENDED;
        if (says_bye) send_all(client->connection.socket, bye, sizeof bye - 1);
    } else if (client->state == GREETED && contains(payload, length, "\"type\":\"bye\"")) client->state = ENDED;
}

/* Drops the answer to the upgrade; returns whether it has arrived whole. */
static int skip_head(struct connection *connection) {
    static const char end[] = "\r\n\r\n";
    if (connection->filled && connection->buffer[0] != 'H') return 1;
    unsigned char *found = memmem(connection->buffer, connection->filled, end, 4);
    if (!found) return 0;
    if (memcmp(connection->buffer, "HTTP/1.1 101", 12)) refuse("no upgrade");
    size_t head = (size_t)(found + 4 - connection->buffer);
    connection->filled -= head;
    memmove(connection->buffer, found + 4, connection->filled);
    return 1;
}

static void on_readable(int index) {
    struct client *client = &clients[index];
    receive(&client->connection);
    if (client->state == UPGRADING && !skip_head(&client->connection)) return;
    take_frames(&client->connection, index, on_text);
    if (client->connection.closed && client->state != ENDED) refuse("the server sent a close frame");
    if (client->state != ENDED) return;
    close(client->connection.socket);
    client->state = IDLE;
    done++;
}

int main(int argc, char **argv) {
    if (argc != 7) refuse("usage: hellos PORT AT_ONCE COUNT RATE BYE FRAMES_FILE");
    int at_once = atoi(argv[2]);
    size_t count = (size_t)atol(argv[3]);
    double rate = atof(argv[4]);
    address = (struct sockaddr_in){AF_INET, htons((uint16_t)atoi(argv[1])), {htonl(INADDR_LOOPBACK)}, {0}};
    says_bye = atoi(argv[5]);
    frames = read_blocks(argv[6], &frame_count);
    poll_set = epoll_create1(0);
    if (!(clients = calloc((size_t)at_once, sizeof *clients)) || poll_set < 0) fail("start");
    double start = now(), next = start;
    int timer = open_timer(rate);
    uint64_t due = rate > 0 ? 0 : count;
    if (timer >= 0) watch(poll_set, timer, (uint32_t)at_once);
    struct epoll_event ready[256];
    while (done < count) {
        for (int i = 0; i < at_once && due && begun < count; i++) {
            if (clients[i].state != IDLE) continue;
            next += rate > 0 ? 1 / rate : 0;
            begin(i, rate > 0 ? next : now());
            due--;
        }
        int found = epoll_wait(poll_set, ready, 256, 20000);
        if (found == 0) refuse("no answer for twenty seconds");
        for (int i = 0; i < found; i++) {
            if ((int)ready[i].data.u32 == at_once) due += expirations(timer);
            else on_readable((int)ready[i].data.u32);
        }
    }
    printf("%zu %.6f", done, now() - start);
    print_latencies();
    return 0;
}
