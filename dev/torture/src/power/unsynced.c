/* Notes what a process has written to its files and not synced, so that a loss of power can take
 * it away afterwards. Loaded below a node with LD_PRELOAD; `restore` in mod.rs reads the notes.
 *
 * UNSYNCED_ROOT   the folder that is watched
 * UNSYNCED_LIES   if set, nothing is ever synced, whatever is said: to see that losses are found
 * UNSYNCED_NOTES  where the notes go, on the same file system:
 *   u/INODE-BORN  what was overwritten since the last sync, oldest first: records of offset, length
 *                 and bytes. The first one has offset ~0 and the length that the file had. (When
 *                 it was made is in the name, in nanoseconds: numbers of inodes come again.)
 *   s/INODE-BORN  the same, while a sync of that file is under way
 *   f/INODE       another name of each file that a folder durably had, so that it outlives its own
 *   d/INODE       the names that a folder durably has: lines of inode, type and name
 *
 * A file's bytes and length are durable when it was synced, and a name when its folder was: no
 * more than POSIX promises. Names are compared when the power goes, so calls that change them need
 * not be seen. Of those that change what is in files, the ones are seen that Rust's library makes.
 * Room that is only kept (fallocate) is not seen before the next sync.
 *
 * A note and the change that it is of are one to every sync: a note that was made before a sync
 * began, of a change that came after it, would go with the sync, and the change would count as
 * durable. So both are made under one lock, and the length of the file is asked for under it.
 *
 * UNSYNCED_PAUSE  so many milliseconds lie between each note and its change: for a test
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX], notes[PATH_MAX];
static dev_t device;
static int is_on, lies;
static useconds_t pause_micros;
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;    /* the notes, and what they are of */
static pthread_mutex_t a_sync = PTHREAD_MUTEX_INITIALIZER; /* one sync at a time */

static void fatal(const char *what) {
    dprintf(2, "unsynced: %s: %s\n", what, strerror(errno));
    _exit(99);
}

/* The real calls, without the functions here. */
static int raw_open(const char *path, int flags) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0644);
}

static void raw_write(int fd, const void *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t more = syscall(SYS_write, fd, (const char *)bytes + done, length - done);
        if (more < 0) fatal("writing a note");
        done += (size_t)more;
    }
}

static int is_within(const char *path) {
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* Whether it is a file or a folder that is watched. */
static int watches(int fd, struct stat *found) {
    if (!is_on || fstat(fd, found) || found->st_dev != device) return 0;
    if (!S_ISREG(found->st_mode) && !S_ISDIR(found->st_mode)) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_within(path);
}

static void note_path(char *path, const char *kind, ino_t inode) {
    snprintf(path, PATH_MAX, "%s/%s/%llu", notes, kind, (unsigned long long)inode);
}

static void file_path(char *path, const char *kind, int fd) {
    struct statx found;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &found)) fatal("a file");
    unsigned long long born = 0;
    if (found.stx_mask & STATX_BTIME)
        born = (unsigned long long)found.stx_btime.tv_sec * 1000000000ULL + found.stx_btime.tv_nsec;
    snprintf(path, PATH_MAX, "%s/%s/%llu-%llu", notes, kind, (unsigned long long)found.stx_ino, born);
}

static void record(int to, uint64_t offset, uint64_t length, const void *bytes, size_t count) {
    uint64_t head[2] = {offset, length};
    raw_write(to, head, sizeof head);
    if (count) raw_write(to, bytes, count);
}

/* Whether it is a file whose changes are noted. If it is, nobody else changes or syncs any until
 * `changed`. */
static int changes(int fd, struct stat *found) {
    if (!watches(fd, found) || !S_ISREG(found->st_mode)) return 0;
    pthread_mutex_lock(&one);
    /* As it is now: it may have grown since. */
    if (fstat(fd, found)) fatal("a file");
    return 1;
}

static void changed(int is_noted) {
    int error = errno;
    if (is_noted) pthread_mutex_unlock(&one);
    errno = error;
}

/* Notes what is in [offset, offset + length) before it changes. */
static void note(int fd, const struct stat *found, uint64_t offset, uint64_t length) {
    char path[PATH_MAX], reading[64];
    file_path(path, "u", fd);
    int to = raw_open(path, O_WRONLY | O_CREAT | O_APPEND);
    if (to < 0) fatal(path);
    uint64_t size = (uint64_t)found->st_size;
    if (lseek(to, 0, SEEK_END) == 0) record(to, ~0ULL, size, NULL, 0);
    if (offset < size) {
        size_t count = (size_t)(offset + length < size ? length : size - offset);
        char *bytes = malloc(count);
        snprintf(reading, sizeof reading, "/proc/self/fd/%d", fd);
        int from = raw_open(reading, O_RDONLY);
        if (!bytes || from < 0) fatal(reading);
        size_t done = 0;
        while (done < count) {
            ssize_t more = pread(from, bytes + done, count - done, (off_t)(offset + done));
            if (more <= 0) break;
            done += (size_t)more;
        }
        record(to, offset, done, bytes, done);
        free(bytes);
        syscall(SYS_close, from);
    }
    syscall(SYS_close, to);
    if (pause_micros) usleep(pause_micros);
}

/* To be followed by the write, and by `changed` with what was given back. */
static int before_write(int fd, uint64_t length, int64_t offset) {
    struct stat found;
    if (!changes(fd, &found)) return 0;
    if (offset < 0) {
        int flags = fcntl(fd, F_GETFL);
        offset = flags & O_APPEND ? found.st_size : lseek(fd, 0, SEEK_CUR);
    }
    note(fd, &found, (uint64_t)offset, length);
    return 1;
}

/* The names that a folder has now. */
static void list(const char *folder, ino_t inode) {
    char path[PATH_MAX], fresh[PATH_MAX], of[PATH_MAX], kept[PATH_MAX];
    DIR *open_folder = opendir(folder);
    if (!open_folder) fatal(folder);
    note_path(path, "d", inode);
    snprintf(fresh, sizeof fresh, "%s/new-%llu", notes, (unsigned long long)inode);
    int to = raw_open(fresh, O_WRONLY | O_CREAT | O_TRUNC);
    if (to < 0) fatal(fresh);
    struct dirent *entry;
    while ((entry = readdir(open_folder))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        struct stat found;
        if (snprintf(of, sizeof of, "%s/%s", folder, entry->d_name) >= (int)sizeof of) continue;
        if (lstat(of, &found)) continue;
        char type = S_ISDIR(found.st_mode) ? 'd' : S_ISREG(found.st_mode) ? 'f' : 'o';
        if (type == 'o') continue;
        if (type == 'f') {
            note_path(kept, "f", found.st_ino);
            if (link(of, kept) && errno != EEXIST && errno != ENOENT) fatal(kept);
        }
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%llu %c %s\n", (unsigned long long)found.st_ino,
                              type, entry->d_name);
        raw_write(to, line, (size_t)length);
    }
    closedir(open_folder);
    syscall(SYS_close, to);
    if (rename(fresh, path)) fatal(path);
}

/* All that is there at the start is durable: it was put there by `restore`. */
static void list_all(const char *folder) {
    struct stat found;
    if (lstat(folder, &found)) return;
    list(folder, found.st_ino);
    DIR *open_folder = opendir(folder);
    struct dirent *entry;
    while (open_folder && (entry = readdir(open_folder))) {
        char of[PATH_MAX];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (snprintf(of, sizeof of, "%s/%s", folder, entry->d_name) >= (int)sizeof of) continue;
        if (!lstat(of, &found) && S_ISDIR(found.st_mode)) list_all(of);
    }
    if (open_folder) closedir(open_folder);
}

__attribute__((constructor)) static void begin(void) {
    const char *of = getenv("UNSYNCED_ROOT"), *to = getenv("UNSYNCED_NOTES");
    if (!of || !to || !realpath(of, root) || !realpath(to, notes)) return;
    struct stat found;
    if (stat(root, &found)) fatal(root);
    device = found.st_dev;
    lies = getenv("UNSYNCED_LIES") != NULL;
    const char *pause = getenv("UNSYNCED_PAUSE");
    if (pause) pause_micros = (useconds_t)atoi(pause) * 1000;
    list_all(root);
    is_on = 1;
}

static int sync_with(long call, int fd) {
    struct stat found;
    if (!watches(fd, &found)) return (int)syscall(call, fd);
    if (lies) return 0;
    char before[PATH_MAX], under_way[PATH_MAX], path[PATH_MAX], link[64];
    pthread_mutex_lock(&a_sync);
    int is_folder = S_ISDIR(found.st_mode);
    file_path(before, "u", fd);
    file_path(under_way, "s", fd);
    pthread_mutex_lock(&one);
    if (is_folder) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
        list(path, found.st_ino);
    } else if (rename(before, under_way) && errno != ENOENT) {
        fatal(under_way);
    }
    pthread_mutex_unlock(&one);
    int result = (int)syscall(call, fd);
    int error = errno;
    if (!is_folder) {
        /* A sync that failed leaves its notes: nobody knows what became of the bytes. */
        if (result == 0 && unlink(under_way) && errno != ENOENT) fatal(under_way);
    }
    pthread_mutex_unlock(&a_sync);
    errno = error;
    return result;
}

int fsync(int fd) { return sync_with(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }

ssize_t write(int fd, const void *bytes, size_t length) {
    int is_noted = before_write(fd, length, -1);
    ssize_t done = syscall(SYS_write, fd, bytes, length);
    changed(is_noted);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    int is_noted = before_write(fd, length, offset);
    ssize_t done = syscall(SYS_pwrite64, fd, bytes, length, offset);
    changed(is_noted);
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    return pwrite(fd, bytes, length, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    uint64_t length = 0;
    for (int at = 0; at < count; at++) length += parts[at].iov_len;
    int is_noted = before_write(fd, length, -1);
    ssize_t done = syscall(SYS_writev, fd, parts, count);
    changed(is_noted);
    return done;
}

int ftruncate(int fd, off_t length) {
    struct stat found;
    int is_noted = changes(fd, &found);
    if (is_noted) {
        uint64_t size = (uint64_t)found.st_size, to = (uint64_t)length;
        note(fd, &found, to, to < size ? size - to : 0);
    }
    int done = (int)syscall(SYS_ftruncate, fd, length);
    changed(is_noted);
    return done;
}

int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

/* Emptying a file changes it. */
static int open_noting(int at, const char *path, int flags, mode_t mode) {
    int is_noted = 0;
    if (is_on && flags & O_TRUNC) {
        int fd = (int)syscall(SYS_openat, at, path, (flags & ~(O_TRUNC | O_CREAT | O_EXCL)) | O_CLOEXEC, 0);
        struct stat found;
        if (fd >= 0) {
            is_noted = changes(fd, &found);
            if (is_noted && found.st_size > 0) note(fd, &found, 0, (uint64_t)found.st_size);
            syscall(SYS_close, fd);
        }
    }
    int opened = (int)syscall(SYS_openat, at, path, flags, mode);
    changed(is_noted);
    return opened;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return open_noting(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags)
    return open_noting(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE(flags)
    return open_noting(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE(flags)
    return open_noting(at, path, flags | O_LARGEFILE, mode);
}
