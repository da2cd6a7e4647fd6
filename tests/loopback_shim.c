/* Preloaded into the Janus that the tests start; for tests only.
 *
 * Janus ignores each interface that is flagged as loopback before it reads ice_enforce_list, so by itself it never
 * offers 127.0.0.1. This shim clears the flag, and it ends Janus with the process that started it, however that ends.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <signal.h>
#include <sys/prctl.h>

typedef int (*list_interfaces)(struct ifaddrs **);

__attribute__((constructor)) static void end_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

int getifaddrs(struct ifaddrs **interfaces)
{
	list_interfaces next = (list_interfaces)dlsym(RTLD_NEXT, "getifaddrs");
	int failed = next(interfaces);
	if (failed)
		return failed;
	for (struct ifaddrs *entry = *interfaces; entry; entry = entry->ifa_next)
		entry->ifa_flags &= ~(unsigned int)IFF_LOOPBACK;
	return 0;
}
