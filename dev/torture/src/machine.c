/* A machine that misbehaves: its disk is slow or full, its clock is wrong. Loaded below a node with
 * LD_PRELOAD; what is wrong stands in the file that AMRITA_BAD_MACHINE names, as three numbers that
 * machine.rs writes:
 *
 *   how much longer each sync takes, in microseconds
 *   1 if no file takes another byte
 *   by how much the clock is ahead, in microseconds
 *
 * Of the calls that write, those are seen that Rust's library makes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct wrong {
    _Atomic int64_t sync_micros, is_full, ahead_micros;
};

static struct wrong nothing;
static struct wrong *wrong = &nothing;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("AMRITA_BAD_MACHINE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *wrong, PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) wrong = map;
    close(fd);
}

/* Standard output and error are not the machine's disk. */
static int is_full(int fd) {
    struct stat found;
    if (!wrong->is_full || fd <= 2 || fstat(fd, &found) || !S_ISREG(found.st_mode)) return 0;
    errno = ENOSPC;
    return 1;
}

static void take_time(void) {
    int64_t micros = wrong->sync_micros;
    if (micros > 0) {
        struct timespec pause = {micros / 1000000, micros % 1000000 * 1000};
        nanosleep(&pause, NULL);
    }
}

int fsync(int fd) {
    take_time();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    take_time();
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return is_full(fd) ? -1 : syscall(SYS_write, fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_full(fd) ? -1 : syscall(SYS_writev, fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return is_full(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return is_full(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, at);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = real(which, now);
    if (outcome == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        int64_t micros = wrong->ahead_micros + now->tv_nsec / 1000;
        int64_t seconds = micros / 1000000 - (micros % 1000000 < 0);
        now->tv_sec += seconds;
        now->tv_nsec = (micros - seconds * 1000000) * 1000 + now->tv_nsec % 1000;
    }
    return outcome;
}
