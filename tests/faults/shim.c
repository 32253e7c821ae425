/* A disk that fails to order: loaded before libc (LD_PRELOAD) into a node, it stands between it and its data directory,
   and sees what it sends and receives.

   SHIM_ROOT    the data directory, as a real path; calls that concern nothing in it are passed on
   SHIM_RULES   the file of rules; read again whenever it changes, and then all counts begin anew. No file: no rules
   SHIM_CLIENT_PORT   where the node listens for clients
   Rules that were applied are noted in the file SHIM_RULES + ".fired": "fdatasync 00000000000000000001.log call=3 …".

   One rule a line, for calls:

       OPERATION PATH [n=N | from=N] [delay_ms=N] [short=N] [ENAME] [lose] [crash=before | crash=after]

   OPERATION  open close pread pwrite write fsync fdatasync ftruncate rename unlink mkdir; `*`: any of these; `sync`:
              fsync or fdatasync. On TCP connections: send, and recv, which counts what has arrived
   PATH       a part of the path below the data directory, which is itself "/"; `*`: any; `.log$`: its end. A rename
              has its target's path.
              Of a connection: "client", or "member/TYPE/TYPE/…" with the numbers of the messages that are sent or
              received in this call (kvnode/node/wire.py), as far as it begins with a whole frame
   n, from    the N-th call that OPERATION and PATH fit, or that one and all later ones; neither: every call
   delay_ms   wait first
   short      write, or read, the first N bytes only; the call then says that it was N. short=-N: all but the last N
   ENAME      do nothing, and fail so: EIO ENOSPC EDQUOT EFBIG EROFS EACCES EMFILE
   lose       what was written to open files since they were last synced is gone, in the crash or before the failure:
              they are as long as then, and what was written over is there again
   crash      SIGKILL to this process, before or after the call (which may be a short one)

   Of a connection only delay_ms and crash.

       clock wall [offset_ms=N] [rate=R]

   is what the wall clock says instead: so much more (or less), and R seconds for each that passes from now on. The
   monotonic clock is left alone. (libfaketime does this too, but its hold on waiting calls disturbs the node.)

   SIGUSR2 is the end of a machine that loses its power: as `lose crash`, at any moment.

   Of the rules that fit a call each counts it, and the first whose count has come is applied. A rule that asks for
   nothing only notes the call. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define RULES_MAX 64
#define RULES_BYTES_MAX 16384
#define FILES_MAX 1024
#define NOT_SHORT LONG_MAX
#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })

enum crash { NONE, BEFORE, AFTER };

struct rule {
    char operation[16], path[64], text[160];
    long n, from, calls; /* calls: those that it fitted */
    long delay_ms, short_bytes, offset_ms;
    double rate;
    int error, lose;
    enum crash crash;
};

static const struct { const char *name; int number; } ERRORS[] = {
    {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EFBIG", EFBIG},
    {"EROFS", EROFS}, {"EACCES", EACCES}, {"EMFILE", EMFILE},
};

static const char *root, *rules_path;
static int client_port;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER; /* over all that follows */
static struct rule rules[RULES_MAX];
static int rule_count, synced_count, has_rules_of_connections;
static struct timespec read_at; /* when the rules were, by the true wall clock */
static struct stat seen; /* the file of rules, as it was read */
static struct { dev_t device; ino_t file; off_t size; } synced[FILES_MAX]; /* sizes when they were last synced */
static struct over {
    dev_t device;
    ino_t file;
    off_t offset;
    size_t size;
    struct over *before;
    char data[];
} *overs; /* what was written over since: the latest first */

/* A handler of signals, which may write, must not interrupt who has the guard. */
static void take_guard(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, before);
    pthread_mutex_lock(&guard);
}

static void leave_guard(const sigset_t *before)
{
    pthread_mutex_unlock(&guard);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

static int is_inside(const char *path)
{
    size_t length = root ? strlen(root) : 0;
    return length && rules_path && !strncmp(path, root, length) && (!path[length] || path[length] == '/');
}

static void path_of(int fd, char *path)
{
    char link[32];
    int errno_before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
    errno = errno_before;
}

/* An open file once more, for reading or for writing. */
static int open_again(int fd, int flags)
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return REAL(open)(link, flags | O_CLOEXEC);
}

/* The rules */

static void parse_word(struct rule *rule, const char *word)
{
    if (sscanf(word, "n=%ld", &rule->n) == 1 || sscanf(word, "from=%ld", &rule->from) == 1
        || sscanf(word, "delay_ms=%ld", &rule->delay_ms) == 1 || sscanf(word, "short=%ld", &rule->short_bytes) == 1
        || sscanf(word, "offset_ms=%ld", &rule->offset_ms) == 1 || sscanf(word, "rate=%lf", &rule->rate) == 1)
        return;
    rule->lose |= !strcmp(word, "lose");
    if (!strcmp(word, "crash=before") || !strcmp(word, "crash=after"))
        rule->crash = strcmp(word, "crash=before") ? AFTER : BEFORE;
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (!strcmp(word, ERRORS[i].name))
            rule->error = ERRORS[i].number;
    if (!rule->lose && !rule->crash && !rule->error) {
        fprintf(stderr, "shim.c: %s: %s is not understood\n", rules_path, word);
        abort();
    }
}

static void parse_line(char *line)
{
    struct rule *rule = &rules[rule_count];
    char *rest, *word, *path;
    *rule = (struct rule){.short_bytes = NOT_SHORT, .rate = 1};
    snprintf(rule->text, sizeof rule->text, "%s", line);
    word = strtok_r(line, " ", &rest);
    path = strtok_r(NULL, " ", &rest);
    if (!word || !path || rule_count == RULES_MAX)
        return;
    snprintf(rule->operation, sizeof rule->operation, "%s", word);
    snprintf(rule->path, sizeof rule->path, "%s", path);
    while ((word = strtok_r(NULL, " ", &rest)))
        parse_word(rule, word);
    rule_count++;
    has_rules_of_connections |= !strcmp(rule->operation, "send") || !strcmp(rule->operation, "recv");
}

static void read_rules(void)
{
    static char text[RULES_BYTES_MAX];
    struct stat now = {0};
    if (stat(rules_path, &now) == 0 && now.st_ino == seen.st_ino && now.st_size == seen.st_size
        && now.st_mtim.tv_sec == seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return;
    seen = now;
    rule_count = has_rules_of_connections = 0;
    REAL(clock_gettime)(CLOCK_REALTIME, &read_at);
    int fd = REAL(open)(rules_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t size = REAL(read)(fd, text, sizeof text - 1);
    REAL(close)(fd);
    text[size < 0 ? 0 : size] = 0;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        parse_line(line);
}

static int fits(const struct rule *rule, const char *operation, const char *path)
{
    int is_sync = !strcmp(operation, "fsync") || !strcmp(operation, "fdatasync");
    int is_disk = strcmp(operation, "send") && strcmp(operation, "recv");
    if (strcmp(rule->operation, operation) && !(is_disk && !strcmp(rule->operation, "*"))
        && !(is_sync && !strcmp(rule->operation, "sync")))
        return 0;
    if (!strcmp(rule->path, "/") || !strcmp(path, "/"))
        return !strcmp(rule->path, path) || !strcmp(rule->path, "*");
    size_t wanted = strlen(rule->path), size = strlen(path);
    if (rule->path[wanted - 1] == '$')
        return size >= wanted - 1 && !strncmp(path + size - (wanted - 1), rule->path, wanted - 1);
    return !strcmp(rule->path, "*") || strstr(path, rule->path) != NULL;
}

static void note(const char *operation, const char *path, const struct rule *rule)
{
    char name[PATH_MAX], line[512];
    snprintf(name, sizeof name, "%s.fired", rules_path);
    int size = snprintf(line, sizeof line, "%s %s call=%ld rule: %s\n", operation, path, rule->calls, rule->text);
    int fd = REAL(open)(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || REAL(write)(fd, line, size) != size || REAL(close)(fd))
        abort();
}

/* What the disk holds: of each file what there was when it was last synced. */

static int find_synced(const struct stat *file)
{
    for (int i = 0; i < synced_count; i++)
        if (synced[i].file == file->st_ino && synced[i].device == file->st_dev)
            return i;
    return -1;
}

static int forget_overs(const struct stat *file)
{
    int count = 0;
    for (struct over **place = &overs; *place;) {
        struct over *over = *place;
        if (over->file == file->st_ino && over->device == file->st_dev) {
            *place = over->before;
            free(over);
            count++;
        } else {
            place = &over->before;
        }
    }
    return count;
}

static int note_sync(int fd, int result)
{
    sigset_t signals;
    char path[PATH_MAX];
    struct stat file;
    path_of(fd, path);
    if (result || !is_inside(path) || fstat(fd, &file) || !S_ISREG(file.st_mode))
        return result;
    take_guard(&signals);
    int i = find_synced(&file);
    if (i < 0 && synced_count < FILES_MAX)
        i = synced_count++;
    if (i >= 0) {
        synced[i].device = file.st_dev;
        synced[i].file = file.st_ino;
        synced[i].size = file.st_size;
    }
    forget_overs(&file);
    leave_guard(&signals);
    return result;
}

/* Bytes are about to be written: keep what is on the disk in their place. */
static void note_over(int fd, size_t count, off_t offset)
{
    sigset_t signals;
    char path[PATH_MAX];
    struct stat file;
    int errno_before = errno;
    path_of(fd, path);
    if (is_inside(path) && !fstat(fd, &file) && S_ISREG(file.st_mode)) {
        take_guard(&signals);
        int i = find_synced(&file);
        if (i >= 0 && offset < synced[i].size) {
            size_t size = synced[i].size - offset < (off_t)count ? (size_t)(synced[i].size - offset) : count;
            struct over *over = malloc(sizeof *over + size);
            int readable = open_again(fd, O_RDONLY);
            if (!over || readable < 0)
                abort();
            ssize_t got = REAL(pread)(readable, over->data, size, offset);
            REAL(close)(readable);
            if (got < 0)
                abort();
            over->device = file.st_dev;
            over->file = file.st_ino;
            over->offset = offset;
            over->size = got;
            over->before = overs;
            overs = over;
        }
        leave_guard(&signals);
    }
    errno = errno_before;
}

static void restore_overs(int fd, const struct stat *file)
{
    int writable = overs ? open_again(fd, O_WRONLY) : -1;
    for (struct over *over = overs; over; over = over->before)
        if (over->file == file->st_ino && over->device == file->st_dev
            && REAL(pwrite)(writable, over->data, over->size, over->offset) != (ssize_t)over->size)
            abort();
    if (writable >= 0)
        REAL(close)(writable);
    forget_overs(file);
}

/* With the guard. */
static void lose_unsynced(void)
{
    char path[PATH_MAX];
    struct stat file;
    for (int fd = 3; fd < FILES_MAX; fd++) {
        path_of(fd, path);
        int i = is_inside(path) && !fstat(fd, &file) && S_ISREG(file.st_mode) ? find_synced(&file) : -1;
        if (i < 0)
            continue;
        if (file.st_size > synced[i].size && REAL(ftruncate)(fd, synced[i].size) && errno != EINVAL)
            abort();
        restore_overs(fd, &file);
    }
}

/* The verdict over a call, which has waited already. */

static void crash(const struct rule *verdict)
{
    sigset_t before;
    if (verdict->lose) {
        take_guard(&before); /* for good: nobody writes after that, or tells of it */
        lose_unsynced();
    }
    kill(getpid(), SIGKILL);
}

static void *wait_for_the_power_to_fail(void *signals)
{
    int number;
    sigwait(signals, &number);
    crash(&(struct rule){.lose = 1});
    return NULL;
}

__attribute__((constructor)) static void begin(void)
{
    static sigset_t signals;
    pthread_t thread;
    root = getenv("SHIM_ROOT");
    rules_path = getenv("SHIM_RULES");
    client_port = getenv("SHIM_CLIENT_PORT") ? atoi(getenv("SHIM_CLIENT_PORT")) : 0;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    if (root && (pthread_sigmask(SIG_BLOCK, &signals, NULL) /* before there are other threads: for all of them */
                 || pthread_create(&thread, NULL, wait_for_the_power_to_fail, &signals)))
        abort();
}

static struct rule decide(const char *operation, const char *path)
{
    sigset_t signals;
    struct rule verdict = {.short_bytes = NOT_SHORT};
    int errno_before = errno, is_found = 0;
    take_guard(&signals);
    read_rules();
    for (struct rule *rule = rules; rule < rules + rule_count; rule++) {
        if (!fits(rule, operation, path))
            continue;
        rule->calls++;
        if (!is_found && (rule->n ? rule->calls == rule->n : rule->calls >= rule->from)) {
            is_found = 1;
            verdict = *rule;
            note(operation, path, rule);
        }
    }
    leave_guard(&signals);
    struct timespec wait = {verdict.delay_ms / 1000, verdict.delay_ms % 1000 * 1000000};
    while (verdict.delay_ms && nanosleep(&wait, &wait) && errno == EINTR)
        ;
    if (verdict.crash == BEFORE)
        crash(&verdict);
    if (verdict.error && verdict.lose) {
        take_guard(&signals);
        lose_unsynced();
        leave_guard(&signals);
    }
    errno = errno_before;
    return verdict;
}

static struct rule judge(const char *operation, const char *absolute)
{
    if (!is_inside(absolute))
        return (struct rule){.short_bytes = NOT_SHORT};
    const char *path = absolute + strlen(root);
    return decide(operation, path[0] && path[1] ? path + 1 : "/");
}

static struct rule judge_fd(const char *operation, int fd)
{
    char path[PATH_MAX];
    path_of(fd, path);
    return judge(operation, path);
}

/* Connections */

static int is_connection(int fd)
{
    sigset_t signals;
    struct stat file;
    int errno_before = errno, is_rule = 0;
    if (!rules_path || fstat(fd, &file) || !S_ISSOCK(file.st_mode)) {
        errno = errno_before;
        return 0;
    }
    take_guard(&signals);
    read_rules();
    is_rule = has_rules_of_connections;
    leave_guard(&signals);
    errno = errno_before;
    return is_rule;
}

/* Add the types of the messages whose frames begin in `data`: a length of four bytes, an array, the type. */
static void add_types(char *path, size_t room, const unsigned char *data, size_t size)
{
    while (size > 6 && (data[4] & 0xf0) == 0x90 && data[5] < 0x80 && strlen(path) + 5 < room) {
        size_t length = 4 + ((size_t)data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3]);
        sprintf(path + strlen(path), "%d/", data[5]);
        if (length >= size)
            return;
        data += length;
        size -= length;
    }
}

static struct rule judge_connection(const char *operation, int fd, const struct iovec *parts, int count)
{
    char path[200] = "member/";
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (!count || !is_connection(fd) || getsockname(fd, (struct sockaddr *)&address, &size)
        || address.sin_family != AF_INET)
        return (struct rule){.short_bytes = NOT_SHORT};
    if (ntohs(address.sin_port) == client_port)
        return decide(operation, "client");
    for (int i = 0; i < count; i++)
        add_types(path, sizeof path, parts[i].iov_base, parts[i].iov_len);
    return decide(operation, path);
}

/* The wall clock */

#define NS 1000000000LL

static long long ns_of(const struct timespec *time)
{
    return time->tv_sec * NS + time->tv_nsec;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    sigset_t signals;
    int result = REAL(clock_gettime)(clock, time);
    if (result || clock != CLOCK_REALTIME || !rules_path)
        return result;
    int errno_before = errno;
    take_guard(&signals);
    read_rules();
    for (const struct rule *rule = rules; rule < rules + rule_count; rule++)
        if (!strcmp(rule->operation, "clock")) {
            long long passed = ns_of(time) - ns_of(&read_at);
            long long now = ns_of(time) + (long long)((rule->rate - 1) * passed) + rule->offset_ms * 1000000LL;
            *time = (struct timespec){now / NS, now % NS};
        }
    leave_guard(&signals);
    errno = errno_before;
    return 0;
}

static size_t shorter(const struct rule *verdict, size_t count)
{
    long wanted = verdict->short_bytes < 0 ? (long)count + verdict->short_bytes : verdict->short_bytes;
    return wanted < 0 ? 0 : (size_t)wanted < count ? (size_t)wanted : count;
}

/* The calls */

#define CALL(verdict, call) \
    ({ \
        __typeof__(call) result = -1; \
        if ((verdict).error) \
            errno = (verdict).error; \
        else \
            result = (call); \
        if ((verdict).crash == AFTER) \
            crash(&(verdict)); \
        result; \
    })

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        struct rule verdict = judge("open", path); \
        return CALL(verdict, REAL(name)(path, flags, mode)); \
    }
#define TRANSFER(name, operation, buffer, offset_t, before) \
    ssize_t name(int fd, buffer data, size_t count, offset_t offset) \
    { \
        struct rule verdict = judge_fd(operation, fd); \
        return CALL(verdict, (before(fd, count, offset), REAL(name)(fd, data, shorter(&verdict, count), offset))); \
    }
#define NOTHING(fd, count, offset) (void)0
#define SYNC(name) \
    int name(int fd) \
    { \
        struct rule verdict = judge_fd(#name, fd); \
        return CALL(verdict, note_sync(fd, REAL(name)(fd))); \
    }
#define TRUNCATE(name, offset_t) \
    int name(int fd, offset_t size) \
    { \
        struct rule verdict = judge_fd("ftruncate", fd); \
        return CALL(verdict, REAL(name)(fd, size)); \
    }

OPEN(open)
OPEN(open64)
TRANSFER(pread, "pread", void *, off_t, NOTHING)
TRANSFER(pread64, "pread", void *, off64_t, NOTHING)
TRANSFER(pwrite, "pwrite", const void *, off_t, note_over)
TRANSFER(pwrite64, "pwrite", const void *, off64_t, note_over)
SYNC(fsync)
SYNC(fdatasync)
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

ssize_t write(int fd, const void *data, size_t count)
{
    struct iovec part = {(void *)data, count};
    struct rule verdict = judge_connection("send", fd, &part, 1);
    if (!verdict.crash)
        verdict = judge_fd("write", fd);
    return CALL(verdict, REAL(write)(fd, data, shorter(&verdict, count)));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    struct rule verdict = judge_connection("send", fd, parts, count);
    return CALL(verdict, REAL(writev)(fd, parts, count));
}

ssize_t read(int fd, void *data, size_t count)
{
    ssize_t size = REAL(read)(fd, data, count);
    struct iovec part = {data, size > 0 ? (size_t)size : 0};
    struct rule verdict = judge_connection("recv", fd, &part, size > 0);
    if (verdict.crash)
        crash(&verdict);
    return size;
}

int close(int fd)
{
    struct rule verdict = judge_fd("close", fd);
    return CALL(verdict, REAL(close)(fd));
}

int rename(const char *source, const char *target)
{
    struct rule verdict = judge("rename", target);
    return CALL(verdict, REAL(rename)(source, target));
}

int unlink(const char *path)
{
    struct rule verdict = judge("unlink", path);
    return CALL(verdict, REAL(unlink)(path));
}

int mkdir(const char *path, mode_t mode)
{
    struct rule verdict = judge("mkdir", path);
    return CALL(verdict, REAL(mkdir)(path, mode));
}
