/* As much of gRPC as a Put at etcd needs: what etcd's own benchmark sends, without a library for it. (Its JSON gateway would
   cost the server several times as much for each request.)

   A request is a HEADERS frame, whose header block is the same each time (nothing in it refers to the dynamic table), and
   a DATA frame with one PutRequest. An answer is HEADERS, DATA, HEADERS with the flag END_STREAM; an error has no DATA. So
   nothing that the server sends has to be decoded.

   Flow control: main.c sees to it that what is under way fits into the windows that every server grants. Those for what
   the server sends are opened so far that they never close. */

#include "load.h"
#include <stdio.h>
#include <string.h>

#define FRAME_BYTES 9
#define PING_BYTES 8
enum type { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8 };
enum flag { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

/* Header fields that are not to be indexed: the number of a known name, or a name; lengths before texts. */
static const char HEADER_BLOCK[] =
    "\x83\x86"                                                /* :method POST, :scheme http */
    "\x04\x14" "/etcdserverpb.KV/Put"                         /* :path */
    "\x01\x09" "localhost"                                    /* :authority */
    "\x0f\x10\x10" "application/grpc"                         /* content-type */
    "\x00\x02" "te" "\x08" "trailers";

static char *put_number(char *at, uint32_t number, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) *at++ = (char)(number >> (8 * i));
    return at;
}

static char *put_frame(char *at, size_t size, enum type type, int flags, uint32_t stream) {
    at = put_number(at, (uint32_t)size, 3);
    *at++ = (char)type;
    *at++ = (char)flags;
    return put_number(at, stream, 4);
}

static char *put_field(char *at, int number, const char *bytes, size_t size) {
    *at++ = (char)(number << 3 | 2);
    size_t left = size;
    for (; left > 127; left >>= 7) *at++ = (char)(left | 128);
    *at++ = (char)left;
    memcpy(at, bytes, size);
    return at + size;
}

static char *greet(char *at) {
    at += sprintf(at, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    at = put_frame(at, 0, SETTINGS, 0, 0);
    at = put_frame(at, 4, WINDOW_UPDATE, 0, 0);
    return put_number(at, 1 << 30, 4);
}

static char *set(struct connection *c, char *at, const char *key) {
    c->stream = c->stream ? c->stream + 2 : 1;
    at = put_frame(at, sizeof HEADER_BLOCK - 1, HEADERS, END_HEADERS, c->stream);
    memcpy(at, HEADER_BLOCK, sizeof HEADER_BLOCK - 1);
    char *frame = at + sizeof HEADER_BLOCK - 1, *message = frame + FRAME_BYTES, *end = message + 5;
    end = put_field(end, 1, key, KEY_BYTES);
    end = put_field(end, 2, value, (size_t)value_bytes);
    put_frame(frame, (size_t)(end - message), DATA, END_STREAM, c->stream);
    *message = 0; /* not compressed */
    put_number(message + 1, (uint32_t)(end - message - 5), 4);
    return end;
}

static char *get(struct connection *c, char *at, const char *key) {
    (void)c, (void)at, (void)key;
    fail("usage", "there is no get for etcd");
}

/* A whole frame; of its payload no more than a PING has. */
static void take_frame(struct connection *c, enum type type, int flags, const char *payload) {
    char answer[FRAME_BYTES + PING_BYTES];
    if (type == RST_STREAM || type == GOAWAY) fail("refused", "etcd ended a stream or the connection");
    if (type == DATA) c->values++;
    if (type == HEADERS && flags & END_STREAM) {
        c->missing--;
        if (c->values-- == 0) fail("refused", "etcd answered with an error");
    }
    if (type == SETTINGS && !(flags & ACK)) {
        put_frame(answer, 0, SETTINGS, ACK, 0);
        send_now(c, answer, FRAME_BYTES);
    }
    if (type == PING && !(flags & ACK)) {
        memcpy(put_frame(answer, PING_BYTES, PING, ACK, 0), payload, PING_BYTES);
        send_now(c, answer, sizeof answer);
    }
}

static size_t keep(struct connection *c, const char *data, size_t size, size_t wanted) {
    size_t n = c->head_size >= wanted ? 0 : wanted - c->head_size;
    if (n > size) n = size;
    memcpy(c->head + c->head_size, data, n);
    c->head_size += n;
    return n;
}

static void take(struct connection *c, const char *data, size_t size) {
    const unsigned char *head = (unsigned char *)c->head;
    while (size) {
        if (c->head_size < FRAME_BYTES) {
            size_t n = keep(c, data, size, FRAME_BYTES);
            data += n;
            size -= n;
            if (c->head_size < FRAME_BYTES) return;
            c->body = head[0] << 16 | head[1] << 8 | head[2];
        }
        size_t n = size < (size_t)c->body ? size : (size_t)c->body;
        keep(c, data, n, FRAME_BYTES + PING_BYTES);
        data += n;
        size -= n;
        c->body -= (long)n;
        if (c->body) return;
        c->head_size = 0;
        take_frame(c, head[3], head[4], c->head + FRAME_BYTES);
    }
}

const struct protocol etcd = {256, greet, get, set, take};
