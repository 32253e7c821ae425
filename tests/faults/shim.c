/* A disk that fails to order: loaded before libc (LD_PRELOAD) into a node, it stands between it and its data directory.

   SHIM_ROOT    the data directory, as a real path; calls that concern nothing in it are passed on
   SHIM_RULES   the file of rules; read again whenever it changes, and then all counts begin anew. No file: no rules
   Rules that were applied are noted in the file SHIM_RULES + ".fired": "fdatasync 00000000000000000001.log call=3 …".

   One rule a line:

       OPERATION PATH [n=N | from=N] [delay_ms=N] [short=N] [ENAME] [lose] [crash=before | crash=after]

   OPERATION  open close pread pwrite write fsync fdatasync ftruncate rename unlink mkdir; `*`: any; `sync`: fsync or
              fdatasync
   PATH       a part of the path below the data directory, which is itself "/"; `*`: any. A rename has its target's path
   n, from    the N-th call that OPERATION and PATH fit, or that one and all later ones; neither: every call
   delay_ms   wait first
   short      write, or read, the first N bytes only; the call then says that it was N. short=-N: all but the last N
   ENAME      do nothing, and fail so: EIO ENOSPC EDQUOT EFBIG EROFS EACCES EMFILE
   lose       what was written to open files since they were last synced is gone, in the crash or before the failure:
              they are as long as then, and what was written over is there again
   crash      SIGKILL to this process, before or after the call (which may be a short one)

   Of the rules that fit a call each counts it, and the first whose count has come is applied. A rule that asks for
   nothing only notes the call. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
    long delay_ms, short_bytes;
    int error, lose;
    enum crash crash;
};

static const struct { const char *name; int number; } ERRORS[] = {
    {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EFBIG", EFBIG},
    {"EROFS", EROFS}, {"EACCES", EACCES}, {"EMFILE", EMFILE},
};

static const char *root, *rules_path;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER; /* over all that follows */
static struct rule rules[RULES_MAX];
static int rule_count, synced_count;
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

__attribute__((constructor)) static void begin(void)
{
    root = getenv("SHIM_ROOT");
    rules_path = getenv("SHIM_RULES");
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
        || sscanf(word, "delay_ms=%ld", &rule->delay_ms) == 1 || sscanf(word, "short=%ld", &rule->short_bytes) == 1)
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
    *rule = (struct rule){.short_bytes = NOT_SHORT};
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
}

static void read_rules(void)
{
    static char text[RULES_BYTES_MAX];
    struct stat now = {0};
    if (stat(rules_path, &now) == 0 && now.st_ino == seen.st_ino && now.st_size == seen.st_size
        && now.st_mtim.tv_sec == seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return;
    seen = now;
    rule_count = 0;
    int fd = REAL(open)(rules_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t size = read(fd, text, sizeof text - 1);
    REAL(close)(fd);
    text[size < 0 ? 0 : size] = 0;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        parse_line(line);
}

static int fits(const struct rule *rule, const char *operation, const char *path)
{
    int is_sync = !strcmp(operation, "fsync") || !strcmp(operation, "fdatasync");
    if (strcmp(rule->operation, "*") && strcmp(rule->operation, operation)
        && !(is_sync && !strcmp(rule->operation, "sync")))
        return 0;
    if (!strcmp(rule->path, "/") || !strcmp(path, "/"))
        return !strcmp(rule->path, path) || !strcmp(rule->path, "*");
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
    char path[PATH_MAX];
    struct stat file;
    path_of(fd, path);
    if (result || !is_inside(path) || fstat(fd, &file) || !S_ISREG(file.st_mode))
        return result;
    pthread_mutex_lock(&guard);
    int i = find_synced(&file);
    if (i < 0 && synced_count < FILES_MAX)
        i = synced_count++;
    if (i >= 0) {
        synced[i].device = file.st_dev;
        synced[i].file = file.st_ino;
        synced[i].size = file.st_size;
    }
    forget_overs(&file);
    pthread_mutex_unlock(&guard);
    return result;
}

/* Bytes are about to be written: keep what is on the disk in their place. */
static void note_over(int fd, size_t count, off_t offset)
{
    char path[PATH_MAX];
    struct stat file;
    int errno_before = errno;
    path_of(fd, path);
    if (is_inside(path) && !fstat(fd, &file) && S_ISREG(file.st_mode)) {
        pthread_mutex_lock(&guard);
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
        pthread_mutex_unlock(&guard);
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

static void lose_unsynced(void)
{
    char path[PATH_MAX];
    struct stat file;
    pthread_mutex_lock(&guard);
    for (int fd = 3; fd < FILES_MAX; fd++) {
        path_of(fd, path);
        int i = is_inside(path) && !fstat(fd, &file) && S_ISREG(file.st_mode) ? find_synced(&file) : -1;
        if (i < 0)
            continue;
        if (file.st_size > synced[i].size && REAL(ftruncate)(fd, synced[i].size) && errno != EINVAL)
            abort();
        restore_overs(fd, &file);
    }
    pthread_mutex_unlock(&guard);
}

/* The verdict over a call, which has waited already. */

static void crash(const struct rule *verdict)
{
    if (verdict->lose)
        lose_unsynced();
    kill(getpid(), SIGKILL);
}

static struct rule judge(const char *operation, const char *absolute)
{
    struct rule verdict = {.short_bytes = NOT_SHORT};
    if (!is_inside(absolute))
        return verdict;
    const char *path = absolute + strlen(root);
    path = path[0] && path[1] ? path + 1 : "/";
    int errno_before = errno, is_found = 0;
    pthread_mutex_lock(&guard);
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
    pthread_mutex_unlock(&guard);
    struct timespec wait = {verdict.delay_ms / 1000, verdict.delay_ms % 1000 * 1000000};
    while (verdict.delay_ms && nanosleep(&wait, &wait) && errno == EINTR)
        ;
    if (verdict.crash == BEFORE)
        crash(&verdict);
    if (verdict.error && verdict.lose)
        lose_unsynced();
    errno = errno_before;
    return verdict;
}

static struct rule judge_fd(const char *operation, int fd)
{
    char path[PATH_MAX];
    path_of(fd, path);
    return judge(operation, path);
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
    struct rule verdict = judge_fd("write", fd);
    return CALL(verdict, REAL(write)(fd, data, shorter(&verdict, count)));
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
