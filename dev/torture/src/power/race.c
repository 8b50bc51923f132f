/* A file is written before, after or while it is synced, by another thread. Says what was in the file
 * when the sync returned. Run below `unsynced.c` by the tests of `restore.rs`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int file;

static void *write_it(void *nothing) {
    return pwrite(file, "came now", 8, 0) == 8 ? nothing : NULL;
}

int main(int count, char **words) {
    char synced[9] = {0};
    pthread_t writer;
    if (count != 3 || (file = open(words[1], O_RDWR)) < 0) return 1;
    if (strcmp(words[2], "before") == 0) write_it(NULL);
    if (strcmp(words[2], "meanwhile") == 0) {
        if (pthread_create(&writer, NULL, write_it, NULL)) return 1;
        usleep(100000);
    }
    if (fsync(file) || pread(file, synced, 8, 0) != 8) return 1;
    if (strcmp(words[2], "meanwhile") == 0) pthread_join(writer, NULL);
    if (strcmp(words[2], "after") == 0) write_it(NULL);
    fputs(synced, stdout);
    return 0;
}
