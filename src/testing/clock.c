/* A realtime clock that jumps, for one process: preloaded, this adds to the realtime clock what the file named by
 * BATON_CLOCK says at that moment, a signed 64-bit number of milliseconds. The monotonic clock, relative timeouts and
 * the clocks of all other processes stay as they are, as when an administrator or NTP sets a host's clock.
 *
 * It covers what mysqld and the operator use. What is not covered, because neither uses it: mutexes, semaphores and
 * futexes with realtime deadlines, timers and sleeps until a time of day. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* A deadline says not by which clock it is, and a condition variable keeps that to itself. No host has been up for 31
 * years: what is below is of the monotonic clock, whatever is as far away as the other is for ever. */
static const time_t REALTIME_FIRST = 1000000000, REALTIME_LAST = 100000000000;
static const useconds_t LOOKS_US = 5000;

static int64_t nothing;
static volatile int64_t *offset_ms = &nothing;

__attribute__((constructor)) static void attach(void)
{
	const char *path = getenv("BATON_CLOCK");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file < 0)
		return;
	void *found = mmap(NULL, sizeof *offset_ms, PROT_READ, MAP_SHARED, file, 0);
	close(file);
	if (found != MAP_FAILED)
		offset_ms = found;
}

/* The default version of a name may be another than the one a program was linked with: glibc has an old
 * pthread_cond_timedwait with another layout. */
static void *next(const char *name, const char *version)
{
	void *found = dlvsym(RTLD_NEXT, name, version);
	return found ? found : dlsym(RTLD_NEXT, name);
}

static void add_ms(struct timespec *time, int64_t ms)
{
	time->tv_sec += ms / 1000;
	time->tv_nsec += ms % 1000 * 1000000;
	int carry = time->tv_nsec < 0 ? -1 : time->tv_nsec >= 1000000000;
	time->tv_sec += carry;
	time->tv_nsec -= carry * 1000000000L;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	static int (*real)(clockid_t, struct timespec *);
	if (!real)
		real = next("clock_gettime", "GLIBC_2.17");
	int result = real(clock, time);
	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		add_ms(time, *offset_ms);
	return result;
}

int timespec_get(struct timespec *time, int base)
{
	return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, time) == 0 ? base : 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	(void)zone;
	struct timespec now;
	int result = clock_gettime(CLOCK_REALTIME, &now);
	*time = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
	return result;
}

time_t time(time_t *into)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (into)
		*into = now.tv_sec;
	return now.tv_sec;
}

/* Waits with a realtime deadline. The kernel knows only the deadline by the real clock, so a jump has to be brought to
 * who waits already: ahead, by waking those whose deadline has passed; back, by waiting again. Two things differ from a
 * real jump: who is woken sees that (for nothing, which POSIX allows) before it sees its deadline pass, and a signal
 * that comes in the moment in which a wait is renewed is lost. */
struct wait {
	pthread_cond_t *on;
	struct timespec until;
	struct wait *next;
};
static struct wait *waits;
static pthread_mutex_t waits_lock = PTHREAD_MUTEX_INITIALIZER;

static int passed(const struct timespec *until)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec > until->tv_sec || (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec);
}

static void *watch(void *none)
{
	for (int64_t seen = *offset_ms;; usleep(LOOKS_US)) {
		if (seen == *offset_ms)
			continue;
		seen = *offset_ms;
		pthread_mutex_lock(&waits_lock);
		for (struct wait *one = waits; one; one = one->next)
			if (passed(&one->until))
				pthread_cond_broadcast(one->on);
		pthread_mutex_unlock(&waits_lock);
	}
	return none;
}

static void enter(struct wait *one)
{
	static int watched;
	pthread_mutex_lock(&waits_lock);
	one->next = waits;
	waits = one;
	if (!watched) {
		/* The process' signals are for its own threads. */
		sigset_t all, before;
		pthread_t thread;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		watched = pthread_create(&thread, NULL, watch, NULL) == 0;
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	pthread_mutex_unlock(&waits_lock);
}

static void leave(struct wait *one)
{
	pthread_mutex_lock(&waits_lock);
	struct wait **place = &waits;
	while (*place != one)
		place = &(*place)->next;
	*place = one->next;
	pthread_mutex_unlock(&waits_lock);
}

int pthread_cond_timedwait(pthread_cond_t *restrict on, pthread_mutex_t *restrict held,
			   const struct timespec *restrict until)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	if (!real)
		real = next("pthread_cond_timedwait", "GLIBC_2.3.2");
	if (until->tv_sec < REALTIME_FIRST || until->tv_sec > REALTIME_LAST)
		return real(on, held, until);
	struct wait mine = {.on = on, .until = *until};
	int result;
	enter(&mine);
	do {
		struct timespec by_the_real_clock = *until;
		add_ms(&by_the_real_clock, -*offset_ms);
		result = real(on, held, &by_the_real_clock);
	} while (result == ETIMEDOUT && !passed(until));
	leave(&mine);
	return result;
}
