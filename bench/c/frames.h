/* WebSocket connections of a load program: reads frames of any length, answers pings (RFC 6455). */
#ifndef FRAMES_H
#define FRAMES_H
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

enum { FIRST_BUFFER = 4096, FINAL = 0x80, CONTINUATION = 0, TEXT = 1, CLOSE = 0x88, PING = 0x89 };

struct connection {
    int socket, closed; /* closed: by a close frame */
    size_t filled, capacity;
    unsigned char *buffer;
    size_t message_length; /* the incumbent sends long messages in fragments */
    char *message;
};

struct block { /* of bytes */
    char *bytes;
    size_t length;
};

/* Called with the payload of each text frame; it is not terminated. */
typedef void text_handler(int index, const char *payload, size_t length);

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void refuse(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void send_all(int socket, const char *bytes, size_t length) {
    if (send(socket, bytes, length, MSG_NOSIGNAL) != (ssize_t)length) fail("send");
}

static void answer_ping(int socket, const unsigned char *payload, size_t length) {
    char pong[131] = {(char)0x8a, (char)(0x80 | length)}; /* masked with the key 0: the payload as it is */
    memcpy(pong + 6, payload, length);
    send_all(socket, pong, length + 6);
}

/* Returns the length of the frame at the head of `from`, header included; 0 if the header is not complete. */
static size_t frame_length(const unsigned char *from, size_t filled, size_t *header) {
    if (filled < 2) return 0;
    uint64_t length = from[1];
    size_t extended = length == 126 ? 2 : length == 127 ? 8 : 0;
    *header = 2 + extended;
    if (filled < *header) return 0;
    if (extended) length = 0;
    for (size_t i = 0; i < extended; i++) length = length << 8 | from[2 + i];
    return *header + (size_t)length;
}

/* Appends a fragment to the connection's message, and hands it over when it is whole. */
static void take_fragment(struct connection *from, int index, int final, const char *bytes, size_t length,
                          text_handler *on_text) {
    if (!(from->message = realloc(from->message, from->message_length + length + 1))) fail("memory");
    memcpy(from->message + from->message_length, bytes, length);
    from->message_length += length;
    if (!final) return;
    on_text(index, from->message, from->message_length);
    free(from->message);
    from->message = NULL;
    from->message_length = 0;
}

static void take_frames(struct connection *from, int index, text_handler *on_text) {
    size_t at = 0, header = 0, whole;
    while ((whole = frame_length(from->buffer + at, from->filled - at, &header)) && from->filled - at >= whole) {
        const unsigned char *frame = from->buffer + at;
        at += whole;
        const char *payload = (const char *)frame + header;
        int type = frame[0] & ~FINAL;
        if (frame[0] == (FINAL | TEXT)) on_text(index, payload, whole - header);
        else if (type == TEXT || type == CONTINUATION)
            take_fragment(from, index, frame[0] & FINAL, payload, whole - header, on_text);
        else if (frame[0] == PING) answer_ping(from->socket, frame + header, whole - header);
        else if (frame[0] == CLOSE) from->closed = 1;
        else refuse("a frame that the load does not understand");
    }
    from->filled -= at;
    if (at && from->filled) memmove(from->buffer, from->buffer + at, from->filled);
    if (whole + 1 > from->capacity) {
        from->capacity = whole + FIRST_BUFFER;
        from->buffer = realloc(from->buffer, from->capacity);
        if (!from->buffer) fail("memory");
    }
}

/* Reads once into the buffer; a closed connection ends the program. */
static void receive(struct connection *from) {
    if (!from->buffer && !(from->buffer = malloc(from->capacity = FIRST_BUFFER))) fail("memory");
    ssize_t bytes = recv(from->socket, from->buffer + from->filled, from->capacity - from->filled, 0);
    if (bytes < 0 && errno == EAGAIN) return;
    if (bytes <= 0) refuse("the server closed a connection");
    from->filled += (size_t)bytes;
}

static void watch(int poll, int descriptor, uint32_t index) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event)) fail("epoll_ctl");
}

/* Reads `count` blocks: 4 bytes length (little endian), then so many bytes. With count 0 all to the file's end. */
static struct block *read_blocks(const char *path, size_t *count) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    size_t found = 0, wanted = *count;
    struct block *blocks = NULL;
    uint32_t length;
    while ((!wanted || found < wanted) && fread(&length, 4, 1, file) == 1) {
        if (!(blocks = realloc(blocks, (found + 1) * sizeof *blocks))) fail("memory");
        struct block *block = &blocks[found++];
        block->length = length;
        if (!(block->bytes = malloc(length + 1)) || fread(block->bytes, 1, length, file) != length) fail(path);
        block->bytes[length] = 0;
    }
    fclose(file);
    if (!found || (wanted && found < wanted)) refuse("too few blocks in a file");
    *count = found;
    return blocks;
}
#endif
