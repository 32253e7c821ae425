/* The protocol of Redis, as kvnode speaks it too. */

#include "load.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *greet(char *at) { return at; }

static char *get(struct connection *c, char *at, const char *key) {
    (void)c;
    return at + sprintf(at, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", KEY_BYTES, key);
}

static char *set(struct connection *c, char *at, const char *key) {
    (void)c;
    at += sprintf(at, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%ld\r\n", KEY_BYTES, key, value_bytes);
    memcpy(at, value, (size_t)value_bytes);
    memcpy(at + value_bytes, "\r\n", 2);
    return at + value_bytes + 2;
}

/* One line of a reply, without its CRLF. The only number that is ever answered is that of WAIT. */
static void take_line(struct connection *c, const char *line) {
    if (line[0] == '-') fail("refused", line);
    if (line[0] == ':' && line[1] == '0') fail("refused", "WAIT found no replica");
    if (line[0] == '$' && line[1] != '-')
        c->body = atol(line + 1) + 2;
    else
        c->missing--;
}

static void take(struct connection *c, const char *data, size_t size) {
    while (size) {
        if (c->body) {
            size_t n = size < (size_t)c->body ? size : (size_t)c->body;
            c->body -= (long)n;
            data += n;
            size -= n;
            if (!c->body) c->missing--;
            continue;
        }
        const char *end = memchr(data, '\n', size);
        size_t n = end ? (size_t)(end - data) + 1 : size;
        size_t room = sizeof c->head - 1 - c->head_size;
        memcpy(c->head + c->head_size, data, n < room ? n : room);
        c->head_size += n < room ? n : room;
        data += n;
        size -= n;
        if (end) {
            c->head[c->head_size] = 0;
            c->head[strcspn(c->head, "\r\n")] = 0;
            c->head_size = 0;
            take_line(c, c->head);
        }
    }
}

const struct protocol resp = {64, greet, get, set, take};
