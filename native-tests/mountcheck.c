/*
 * Checks what a regular file must be able to do, on the file given: usually a mounted disk.
 *   mountcheck FILE          FILE is writable, at least 4 MiB long, and its content may be destroyed
 *   mountcheck FILE grow     the same, and the file may grow by ftruncate and shrink back
 * Prints a line for each check that failed, and ends with 1 if there was one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB 1024
#define MIB (1024 * KIB)

static int failures;

static void fail(const char *format, ...)
{
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf(" (errno %d, %s)\n", error, strerror(error));
    failures++;
}

static void fill(unsigned char *buffer, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        buffer[i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
}

static int all_zero(const unsigned char *buffer, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (buffer[i])
            return 0;
    return 1;
}

static unsigned char *page_aligned(size_t length)
{
    void *memory;
    if (posix_memalign(&memory, 4096, length))
        abort();
    return memory;
}

/* Odd offsets and lengths, and more than one request's worth. */
static void transfers(int fd)
{
    static const struct { off_t offset; size_t length; } ranges[] = {
        { 0, 1 }, { 511, 2 }, { 4095, 4098 }, { 65536, 65536 }, { 123457, 2 * MIB + 77 }, { 1 * MIB, 1 * MIB },
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        unsigned char *out = malloc(ranges[i].length), *in = calloc(1, ranges[i].length);
        fill(out, ranges[i].length, (unsigned)i + 1);
        if (pwrite(fd, out, ranges[i].length, ranges[i].offset) != (ssize_t)ranges[i].length)
            fail("pwrite of %zu at %lld", ranges[i].length, (long long)ranges[i].offset);
        if (pread(fd, in, ranges[i].length, ranges[i].offset) != (ssize_t)ranges[i].length)
            fail("pread of %zu at %lld", ranges[i].length, (long long)ranges[i].offset);
        if (memcmp(in, out, ranges[i].length))
            fail("content of %zu at %lld differs", ranges[i].length, (long long)ranges[i].offset);
        free(out);
        free(in);
    }
}

static void end_of_file(int fd, off_t size)
{
    char buffer[100];
    ssize_t n = pread(fd, buffer, sizeof(buffer), size - 10);
    if (n != 10)
        fail("pread across the end returned %zd instead of 10", n);
    n = pread(fd, buffer, sizeof(buffer), size);
    if (n != 0)
        fail("pread at the end returned %zd", n);
    n = pread(fd, buffer, sizeof(buffer), size + 100000);
    if (n != 0)
        fail("pread behind the end returned %zd", n);
    if (lseek(fd, 0, SEEK_END) != size)
        fail("SEEK_END is not the size");
}

static void direct(const char *path)
{
    int fd = open(path, O_RDWR | O_DIRECT);
    if (fd < 0) {
        fail("open with O_DIRECT");
        return;
    }
    unsigned char *out = page_aligned(64 * KIB), *in = page_aligned(64 * KIB);
    fill(out, 64 * KIB, 99);
    memset(in, 0, 64 * KIB);
    if (pwrite(fd, out, 64 * KIB, 256 * KIB) != 64 * KIB)
        fail("O_DIRECT pwrite");
    if (pread(fd, in, 64 * KIB, 256 * KIB) != 64 * KIB || memcmp(in, out, 64 * KIB))
        fail("O_DIRECT pread");
    free(out);
    free(in);
    close(fd);
}

static void mapping(int fd)
{
    unsigned char expected[4096], seen[4096];
    fill(expected, sizeof(expected), 7);
    if (pwrite(fd, expected, 4096, 512 * KIB) != 4096)
        fail("pwrite before mmap");

    unsigned char *private = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 512 * KIB);
    if (private == MAP_FAILED) {
        fail("mmap MAP_PRIVATE");
    } else {
        if (memcmp(private, expected, 4096))
            fail("a private mapping shows other bytes");
        munmap(private, 64 * KIB);
    }

    unsigned char *shared = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 512 * KIB);
    if (shared == MAP_FAILED) {
        fail("mmap MAP_SHARED");
        return;
    }
    if (memcmp(shared, expected, 4096))
        fail("a shared mapping shows other bytes");
    fill(shared + 4096, 4096, 8);
    fill(expected, sizeof(expected), 8);
    if (msync(shared, 64 * KIB, MS_SYNC))
        fail("msync");
    if (pread(fd, seen, 4096, 512 * KIB + 4096) != 4096 || memcmp(seen, expected, 4096))
        fail("what was stored through a shared mapping is not read back");
    munmap(shared, 64 * KIB);
}

static void zeroed(int fd, int mode, const char *name)
{
    unsigned char *buffer = malloc(256 * KIB);
    memset(buffer, 0xaa, 256 * KIB);
    if (pwrite(fd, buffer, 256 * KIB, 1 * MIB) != 256 * KIB)
        fail("pwrite before %s", name);
    struct stat before, after;
    fstat(fd, &before);
    if (fallocate(fd, mode, 1 * MIB + 1000, 200 * KIB))
        fail("%s", name);
    fstat(fd, &after);
    if (before.st_size != after.st_size)
        fail("%s changed the size", name);
    if (pread(fd, buffer, 256 * KIB, 1 * MIB) != 256 * KIB)
        fail("pread after %s", name);
    if (buffer[999] != 0xaa || buffer[1000 + 200 * KIB] != 0xaa)
        fail("%s reached too far", name);
    if (!all_zero(buffer + 1000, 200 * KIB))
        fail("%s left bytes", name);
    free(buffer);
}

static void refused_allocations(int fd)
{
    if (fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 1 * MIB, 1 * MIB) == 0 || errno != EOPNOTSUPP)
        fail("FALLOC_FL_COLLAPSE_RANGE was not refused with EOPNOTSUPP");
    if (fallocate(fd, 0, 1 * MIB, 4096) == 0 || errno != EOPNOTSUPP)
        fail("preallocation inside the disk was not refused with EOPNOTSUPP");
}

/* The whole file is zeroed, one block written: a seek must not miss it, and must agree with what reads as zeros. */
static void seeking(int fd, off_t size)
{
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size))
        fail("punching the whole file");
    char block[4096];
    memset(block, 1, sizeof(block));
    if (pwrite(fd, block, sizeof(block), 2 * MIB) != sizeof(block))
        fail("pwrite between holes");
    off_t data = lseek(fd, 0, SEEK_DATA);
    if (data < 0 || data > 2 * MIB)
        fail("SEEK_DATA found %lld", (long long)data);
    off_t hole = lseek(fd, 2 * MIB, SEEK_HOLE);
    if (hole < 2 * MIB + 4096 || hole > size)
        fail("SEEK_HOLE found %lld", (long long)hole);
    if (lseek(fd, size, SEEK_DATA) >= 0 || errno != ENXIO)
        fail("SEEK_DATA at the end is not ENXIO");
    if (lseek(fd, size + 4096, SEEK_HOLE) >= 0 || errno != ENXIO)
        fail("SEEK_HOLE behind the end is not ENXIO");
}

static void times(int fd)
{
    struct timespec set[2] = { { 1000000000, 123456789 }, { 1111111111, 987654321 } };
    struct stat status;
    if (futimens(fd, set))
        fail("futimens");
    fstat(fd, &status);
    if (status.st_atim.tv_sec != set[0].tv_sec || status.st_atim.tv_nsec != set[0].tv_nsec)
        fail("atime was not kept");
    if (status.st_mtim.tv_sec != set[1].tv_sec || status.st_mtim.tv_nsec != set[1].tv_nsec)
        fail("mtime was not kept");
    struct timespec now[2] = { { 0, UTIME_OMIT }, { 0, UTIME_NOW } };
    if (futimens(fd, now))
        fail("futimens with UTIME_NOW");
    fstat(fd, &status);
    if (status.st_atim.tv_sec != set[0].tv_sec)
        fail("UTIME_OMIT changed atime");
    if (status.st_mtim.tv_sec <= set[1].tv_sec)
        fail("UTIME_NOW did not set mtime");
}

static void resizing(int fd, off_t size)
{
    struct stat status;
    unsigned char tail[4096];
    if (ftruncate(fd, size + 1 * MIB))
        fail("ftruncate to a larger size");
    fstat(fd, &status);
    if (status.st_size != size + 1 * MIB)
        fail("size after growing is %lld", (long long)status.st_size);
    if (pread(fd, tail, sizeof(tail), size + 1 * MIB - 4096) != 4096 || !all_zero(tail, sizeof(tail)))
        fail("new space does not read as zeros");
    if (ftruncate(fd, size))
        fail("ftruncate to the old size");
    fstat(fd, &status);
    if (status.st_size != size)
        fail("size after shrinking is %lld", (long long)status.st_size);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: mountcheck FILE [grow]\n");
        return 2;
    }
    int fd = open(argv[1], O_RDWR);
    struct stat status;
    if (fd < 0 || fstat(fd, &status)) {
        fail("open of %s", argv[1]);
        return 1;
    }
    if (!S_ISREG(status.st_mode) || status.st_size < 4 * MIB) {
        fail("%s is not a regular file of 4 MiB or more", argv[1]);
        return 1;
    }

    transfers(fd);
    end_of_file(fd, status.st_size);
    direct(argv[1]);
    mapping(fd);
    zeroed(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "FALLOC_FL_PUNCH_HOLE");
    zeroed(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "FALLOC_FL_ZERO_RANGE with FALLOC_FL_KEEP_SIZE");
    zeroed(fd, FALLOC_FL_ZERO_RANGE, "FALLOC_FL_ZERO_RANGE");
    refused_allocations(fd);
    seeking(fd, status.st_size);
    times(fd);
    if (argc > 2 && strcmp(argv[2], "grow") == 0)
        resizing(fd, status.st_size);
    if (fsync(fd))
        fail("fsync");
    if (fdatasync(fd))
        fail("fdatasync");
    if (close(fd))
        fail("close");
    return failures ? 1 : 0;
}
