/* VideoRoom whose data channels keep their labels and reach subscribers that have opened no data channel themselves.
 *
 * VideoRoom 1.x relays the messages of all data channels of a publisher to its subscribers on one channel labelled with
 * the feed's number, and not before the subscriber has opened a channel itself. This module takes VideoRoom's place,
 * loads the original from ../wrapped and forwards every call, with two changes:
 *
 * - while VideoRoom relays a message (it does so within incoming_data, in the same thread), the message is sent with the
 *   label and protocol of the channel on which it was received;
 * - a peer counts as ready for data as soon as its PeerConnection is up: messages that are sent before its SCTP
 *   association is up wait in the SCTP stack.
 *
 * Build: gcc -shared -fPIC -O2 -o libjanus_datachannels.so datachannels.c -ldl
 * For the plugin interfaces 102 (Janus 1.1.0 to 1.2.0), 103 (1.2.1), 104 (1.2.2), 105 (1.2.3 to 1.3.0) and 106 (since
 * 1.3.1), whose tables of functions and whose struct of a message are the same. With any other interface the original
 * VideoRoom runs unchanged, and its description, which Janus' `info` reports, says so.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The part of Janus' plugin interface (plugins/plugin.h) that is used here; the rest is copied unchanged. */
enum { INIT, GET_API = 2, GET_DESCRIPTION = 5, SETUP_MEDIA = 12, INCOMING_DATA = 15, DATA_READY = 16, PLUGIN_METHODS = 21 };
enum { RELAY_DATA = 3, CALLBACKS = 14 };
#ifndef OLDEST_API
#define OLDEST_API 102
#define NEWEST_API 106
#endif

struct message {
	char *label;
	char *protocol;
	/* binary, buffer and length follow */
};
typedef void (*method)(void);
typedef method *(*create_plugin)(void);
typedef int (*init_plugin)(method *callbacks, const char *configuration);
typedef void (*on_peer)(void *peer);
typedef void (*on_message)(void *peer, struct message *message);

static method *real, wrapper[PLUGIN_METHODS], callbacks[CALLBACKS];
static on_message relay_data;
static __thread struct message *relayed;
static char unknown_api[128];

static void relay_under_own_label(void *peer, struct message *message)
{
	if (relayed) {
		message->label = relayed->label;
		message->protocol = relayed->protocol;
	}
	relay_data(peer, message);
}

static void incoming_data(void *peer, struct message *message)
{
	relayed = message;
	((on_message)real[INCOMING_DATA])(peer, message);
	relayed = NULL;
}

static void setup_media(void *peer)
{
	((on_peer)real[SETUP_MEDIA])(peer);
	((on_peer)real[DATA_READY])(peer);
}

static int init(method *core, const char *configuration)
{
	memcpy(callbacks, core, sizeof(callbacks));
	relay_data = (on_message)core[RELAY_DATA];
	callbacks[RELAY_DATA] = (method)relay_under_own_label;
	return ((init_plugin)real[INIT])(callbacks, configuration);
}

static const char *describe_unknown_api(void)
{
	return unknown_api;
}

method *create(void)
{
	Dl_info own;
	char path[PATH_MAX];
	if (!dladdr((void *)create, &own))
		return NULL;
	const char *end = strrchr(own.dli_fname, '/');
	int folder = end ? (int)(end - own.dli_fname) : 0;
	snprintf(path, sizeof(path), "%.*s/../wrapped/libjanus_videoroom.so", folder, own.dli_fname);
	void *module = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
	create_plugin create_real = module ? (create_plugin)dlsym(module, "create") : NULL;
	if (!create_real) {
		fprintf(stderr, "VideoRoom cannot be loaded: %s\n", dlerror());
		return NULL;
	}
	real = create_real();
	int api = ((int (*)(void))real[GET_API])();
	if (api < OLDEST_API || api > NEWEST_API) {
		snprintf(unknown_api, sizeof(unknown_api),
				"janus-config/datachannels.c, which does not know plugin interface %d: labels of data channels are lost", api);
		fprintf(stderr, "%s\n", unknown_api);
		real[GET_DESCRIPTION] = (method)describe_unknown_api; /* at the same place in each interface */
		return real;
	}
	memcpy(wrapper, real, sizeof(wrapper));
	wrapper[INIT] = (method)init;
	wrapper[SETUP_MEDIA] = (method)setup_media;
	wrapper[INCOMING_DATA] = (method)incoming_data;
	return wrapper;
}
