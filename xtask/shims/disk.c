/* A disk that fails when it is told to. Loaded before the C library (LD_PRELOAD) into a node; while the file
 * named by GRAMME_SHIM exists, what it says goes wrong:
 *
 *   sync    fsync and fdatasync fail with EIO
 *   write   writes to files fail with EIO
 *   full    writes to files fail with ENOSPC, those of the log on standard error too
 *
 * Only regular files are meant: sockets and pipes work as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *mode(void)
{
	static __thread char text[16];
	static int (*real_open)(const char *, int, ...);
	static ssize_t (*real_read)(int, void *, size_t);
	const char *path = getenv("GRAMME_SHIM");
	int fd, saved = errno;
	ssize_t length;

	if (!real_open) {
		real_open = dlsym(RTLD_NEXT, "open");
		real_read = dlsym(RTLD_NEXT, "read");
	}
	fd = path ? real_open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0) {
		errno = saved;
		return "";
	}
	length = real_read(fd, text, sizeof(text) - 1);
	close(fd);
	text[length > 0 ? length : 0] = 0;
	errno = saved;
	return text;
}

static int is_file(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

/* The error that a write to fd is to have; 0 for none. */
static int write_error(int fd)
{
	const char *now;

	if (!is_file(fd))
		return 0;
	now = mode();
	if (strncmp(now, "write", 5) == 0)
		return fd > STDERR_FILENO ? EIO : 0;
	return strncmp(now, "full", 4) == 0 ? ENOSPC : 0;
}

static int sync_error(int fd)
{
	return is_file(fd) && strncmp(mode(), "sync", 4) == 0 ? EIO : 0;
}

#define WRITER(type, name, parameters, arguments)                     \
	type name parameters                                          \
	{                                                             \
		static type(*real) parameters;                        \
		int error = write_error(fd);                          \
                                                                      \
		if (!real)                                            \
			real = dlsym(RTLD_NEXT, #name);               \
		if (error) {                                          \
			errno = error;                                \
			return -1;                                    \
		}                                                     \
		return real arguments;                                \
	}

WRITER(ssize_t, write, (int fd, const void *bytes, size_t length), (fd, bytes, length))
WRITER(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
WRITER(ssize_t, pwrite, (int fd, const void *bytes, size_t length, off_t at), (fd, bytes, length, at))
WRITER(ssize_t, pwrite64, (int fd, const void *bytes, size_t length, off64_t at), (fd, bytes, length, at))
WRITER(int, fallocate, (int fd, int how, off_t at, off_t length), (fd, how, at, length))
WRITER(int, fallocate64, (int fd, int how, off64_t at, off64_t length), (fd, how, at, length))

#define SYNCER(name)                                                  \
	int name(int fd)                                              \
	{                                                             \
		static int (*real)(int);                              \
		int error = sync_error(fd);                           \
                                                                      \
		if (!real)                                            \
			real = dlsym(RTLD_NEXT, #name);               \
		if (error) {                                          \
			errno = error;                                \
			return -1;                                    \
		}                                                     \
		return real(fd);                                      \
	}

SYNCER(fsync)
SYNCER(fdatasync)
