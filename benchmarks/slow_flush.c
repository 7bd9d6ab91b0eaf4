/* Makes every flush to the disk take longer, to see how things go on a slower one.
 *
 *   gcc -shared -fPIC -o slow_flush.so slow_flush.c -ldl
 *   SLOW_FLUSH_US=1000 LD_PRELOAD=./slow_flush.so python benchmarks/queue.py enqueue
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int flush(const char *name, int descriptor) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    const char *microseconds = getenv("SLOW_FLUSH_US");
    if (microseconds != NULL)
        usleep(atoi(microseconds));
    return real(descriptor);
}

int fsync(int descriptor) { return flush("fsync", descriptor); }
int fdatasync(int descriptor) { return flush("fdatasync", descriptor); }
