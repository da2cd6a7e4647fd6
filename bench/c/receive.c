/* Receives until every client has all its messages; fails if a client gets too many or too few.
 *
 * Takes over connected sockets. Sends to each client its frame of FRAMES_FILE, if it is not "-", all at once. Then
 *
 *   events GOAL TEXT   each client must receive exactly GOAL text frames that contain TEXT;
 *   members GOAL FILE  each client must learn by join events of the GOAL session ids in FILE (one a line).
 *
 * Pings are answered, other frames skipped. Prints "ready", then at the end the number of deliveries, the bytes of all
 * text frames and the seconds until the last delivery.
 *
 * Gives up when nothing arrives for PATIENCE seconds.
 *
 * usage: receive PATIENCE (events GOAL TEXT | members GOAL FILE) FRAMES_FILE FD…
 */
#define _GNU_SOURCE /* memmem */
#include "frames.h"

enum { LONGEST_ID = 512, SLOTS = 1 << 14 };

static const char key[] = "\"sessionid\":\"";
static struct connection *clients;
static int client_count, goal, by_member, complete;
static int *received;    /* by client */
static char *known;      /* by client and member */
static const char *text; /* of the events */
static char *members[SLOTS]; /* hashed */
static int numbers[SLOTS];
static uint64_t deliveries, bytes;

static unsigned hash(const char *from, size_t length) {
    unsigned value = 5381;
    for (size_t i = 0; i < length; i++) value = value * 33 ^ (unsigned char)from[i];
    return value % SLOTS;
}

static void read_members(const char *path) {
    FILE *file = fopen(path, "r");
    char line[LONGEST_ID];
    if (!file) fail(path);
    for (int number = 0; fgets(line, sizeof line, file); number++) {
        line[strcspn(line, "\n")] = 0;
        unsigned slot = hash(line, strlen(line));
        while (members[slot]) slot = (slot + 1) % SLOTS;
        members[slot] = strdup(line);
        numbers[slot] = number;
    }
    fclose(file);
}

static int find_member(const char *id, size_t length) {
    for (unsigned slot = hash(id, length); members[slot]; slot = (slot + 1) % SLOTS)
        if (strlen(members[slot]) == length && !memcmp(members[slot], id, length)) return numbers[slot];
    return -1;
}

static void count(int index) {
    deliveries++;
    if (++received[index] == goal) complete++;
    if (received[index] > goal) refuse("a client received too much");
}

static void learn(int index, const char *payload, size_t length) {
    const char *at = payload, *end = payload + length;
    while ((at = memmem(at, (size_t)(end - at), key, sizeof key - 1))) {
        at += sizeof key - 1;
        const char *quote = memchr(at, '"', (size_t)(end - at));
        int member = quote ? find_member(at, (size_t)(quote - at)) : -1;
        if (member < 0 || known[(size_t)index * (size_t)goal + (size_t)member]) continue;
        known[(size_t)index * (size_t)goal + (size_t)member] = 1;
        count(index);
    }
}

static void on_text(int index, const char *payload, size_t length) {
    bytes += length;
    if (!by_member) {
        if (memmem(payload, length, text, strlen(text))) count(index);
    } else if (memmem(payload, length, "\"type\":\"join\"", 13)) learn(index, payload, length);
    else if (memmem(payload, length, "\"type\":\"error\"", 14)) refuse("a client was refused");
}

int main(int argc, char **argv) {
    if (argc < 7) refuse("usage: receive PATIENCE (events GOAL TEXT | members GOAL FILE) FRAMES_FILE FD…");
    int patience = (int)(atof(argv[1]) * 1000);
    goal = atoi(argv[3]);
    text = argv[4];
    client_count = argc - 6;
    if ((by_member = !strcmp(argv[2], "members"))) read_members(argv[4]);
    clients = calloc((size_t)client_count, sizeof *clients);
    received = calloc((size_t)client_count, sizeof *received);
    known = calloc((size_t)client_count, by_member ? (size_t)goal : 1);
    int poll = epoll_create1(0);
    if (!clients || !received || !known || poll < 0) fail("start");
    for (int i = 0; i < client_count; i++) {
        clients[i].socket = atoi(argv[6 + i]);
        fcntl(clients[i].socket, F_SETFL, O_NONBLOCK);
        watch(poll, clients[i].socket, (uint32_t)i);
    }
    size_t frame_count = (size_t)client_count;
    struct block *frames = strcmp(argv[5], "-") ? read_blocks(argv[5], &frame_count) : NULL;
    puts("ready");
    fflush(stdout);
    double start = now(), last = start;
    for (int i = 0; frames && i < client_count; i++) send_all(clients[i].socket, frames[i].bytes, frames[i].length);
    struct epoll_event ready[256];
    for (;;) { /* another 200 ms after the last delivery: a frame too many would come then */
        int found = epoll_wait(poll, ready, 256, complete == client_count ? 200 : patience);
        if (!found && complete == client_count) break;
        if (!found) {
            fprintf(stderr, "only %d of %d clients have received all, %llu in all\n", complete, client_count,
                    (unsigned long long)deliveries);
            return 1;
        }
        for (int i = 0; i < found; i++) {
            int index = (int)ready[i].data.u32;
            uint64_t before = deliveries;
            receive(&clients[index]);
            take_frames(&clients[index], index, on_text);
            if (clients[index].closed) refuse("the server sent a close frame");
            if (deliveries != before) last = now();
        }
    }
    printf("%llu %llu %.6f\n", (unsigned long long)deliveries, (unsigned long long)bytes, last - start);
    return 0;
}
