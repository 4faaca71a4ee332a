// Loaded before a server's own libraries, this moves the server's wall clock. The file that REDISTEST_CLOCK names has the offset: a
// number of nanoseconds, eight bytes as the machine keeps them. Monotonic clocks are left alone.
//
// It is linked with nothing, so that it also fits servers that bring a C library older or newer than the compiler's. It allocates
// nothing and takes no lock, since jemalloc asks for the time before it can allocate.

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

// mapped returns the file in memory, which shows every change at once. Threads that come first at the same time map it twice.
static const volatile long long *mapped(void)
{
	static const volatile long long *known;
	if (!known) {
		const char *path = getenv("REDISTEST_CLOCK");
		int file = path ? open(path, O_RDONLY) : -1;
		void *memory = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *known, PROT_READ, MAP_SHARED, file, 0);
		if (memory == MAP_FAILED)
			abort();
		close(file);
		known = memory;
	}
	return known;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	if (syscall(SYS_clock_gettime, id, now) != 0)
		return -1;
	if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) {
		long long moved = now->tv_sec * SECOND + now->tv_nsec + *mapped();
		now->tv_sec = moved / SECOND;
		now->tv_nsec = moved % SECOND;
	}
	return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec precise;
	clock_gettime(CLOCK_REALTIME, &precise);
	now->tv_sec = precise.tv_sec;
	now->tv_usec = precise.tv_nsec / 1000;
	if (zone)
		*(struct timezone *)zone = (struct timezone){0};
	return 0;
}

time_t time(time_t *now)
{
	struct timespec precise;
	clock_gettime(CLOCK_REALTIME, &precise);
	if (now)
		*now = precise.tv_sec;
	return precise.tv_sec;
}
