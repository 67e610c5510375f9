/* LD_PRELOAD: one read of an energy_uj file, in whatever process comes first, is empty or fails with ENODATA.
 *
 * $CONFORMANCE_FAULT names a file with "empty AT_NS" or "fail AT_NS" (CLOCK_MONOTONIC). The fault is dealt once: who makes
 * the file NAME.dealt has had it. Only the first read of a file (offset 0) counts, so that a reader that goes on reading until
 * the end does not meet it there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int is_counter(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    return length > 10 && !memcmp(path + length - 10, "/energy_uj", 10);
}

/* 0: nothing; 1: an empty read; -1: a failing one */
static int fault_for(int fd, off_t offset) {
    const char *name = getenv("CONFORMANCE_FAULT");
    char dealt[4096], kind[16] = "";
    int64_t at_ns = 0;
    struct timespec now;
    if (!name || offset != 0 || !is_counter(fd)) return 0;
    snprintf(dealt, sizeof dealt, "%s.dealt", name);
    if (!access(dealt, F_OK)) return 0;
    FILE *file = fopen(name, "re");
    if (!file) return 0;
    int found = fscanf(file, "%15s %ld", kind, &at_ns);
    fclose(file);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (found != 2 || (int64_t)now.tv_sec * 1000000000 + now.tv_nsec < at_ns) return 0;
    int mark = open(dealt, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (mark < 0) return 0;
    dprintf(mark, "pid %d\n", (int)getpid());
    close(mark);
    return strcmp(kind, "empty") ? -1 : 1;
}

static ssize_t answer(int fault) {
    if (fault > 0) return 0;
    errno = ENODATA;
    return -1;
}

ssize_t read(int fd, void *to, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    int fault = fault_for(fd, lseek(fd, 0, SEEK_CUR));
    return fault ? answer(fault) : real(fd, to, size);
}

ssize_t pread64(int fd, void *to, size_t size, off64_t offset) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    int fault = fault_for(fd, offset);
    return fault ? answer(fault) : real(fd, to, size, offset);
}

ssize_t pread(int fd, void *to, size_t size, off_t offset) { return pread64(fd, to, size, offset); }
