/* Operations at a stated rate, and their latencies. */
#ifndef PACE_H
#define PACE_H
#include "frames.h"
#include <sys/timerfd.h>

/* Returns a timer that expires `rate` times a second; -1 for a rate of 0. */
static int open_timer(double rate) {
    if (rate <= 0) return -1;
    long interval = (long)(1e9 / rate);
    struct timespec time = {interval / 1000000000, interval % 1000000000};
    struct itimerspec periodic = {time, time};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (timer < 0 || timerfd_settime(timer, 0, &periodic, NULL)) fail("timer");
    return timer;
}

static uint64_t expirations(int timer) {
    uint64_t count = 0;
    return read(timer, &count, sizeof count) == sizeof count ? count : 0;
}

/* Latencies in microseconds. */
static double *latencies;
static size_t latency_count, latency_capacity;

static void keep_latency(double seconds) {
    if (latency_count == latency_capacity) {
        latency_capacity = latency_capacity ? 2 * latency_capacity : 1024;
        if (!(latencies = realloc(latencies, latency_capacity * sizeof *latencies))) fail("memory");
    }
    latencies[latency_count++] = seconds * 1e6;
}

static int compare_latencies(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static double percentile(double percent) {
    size_t index = (size_t)((double)latency_count * percent / 100);
    return latency_count ? latencies[index < latency_count ? index : latency_count - 1] : 0;
}

static void print_latencies(void) { /* 50th, 90th, 99th percentile and the longest */
    if (latency_count) qsort(latencies, latency_count, sizeof *latencies, compare_latencies);
    printf(" %.1f %.1f %.1f %.1f\n", percentile(50), percentile(90), percentile(99), percentile(100));
}
#endif
