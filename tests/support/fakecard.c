// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * fakecard: a sound card for tests, without hardware and without a kernel module.
 *
 * The card is a plugin of libasound (an "ioplug", see alsa/pcm_ioplug.h), capture only. The program under test opens
 * it by name like any card; what it delivers can be checked sample by sample, and it fails on command in the
 * ways in which real cards fail.
 *
 * In asound.conf (only `type` is needed):
 *
 *     pcm_type.fakecard { lib "/…/libasound_module_pcm_fakecard.so" }
 *     pcm.NAME {
 *         type fakecard
 *         ctl "/…/ctl"             # file with the command to obey; none, or no file: run
 *         stat "/…/stat"           # what the card has done so far; default: the path of ctl and ".stat"
 *         formats [ S16_LE ]       # any of S16_LE S24_3LE S24_LE S32_LE FLOAT_LE
 *         rates [ 44100 48000 ]
 *         channels [ 1 2 ]
 *         speed 1.0                # how much faster than real time the card runs
 *         ppm 0.0                  # and by how many parts in a million its crystal is off
 *         raw "/…/sound.raw"       # interleaved S16_LE samples to play in a loop instead of the ramp
 *     }
 *
 * THE RAMP. Frame n of the card has, in channel c of C, the 16-bit value v = (n * C + c) mod 65536. n counts
 * from the card's first start and goes on whether or not anybody reads, also while the card is closed or
 * unplugged, so a hole of k frames shows as a step of k * C. Wider formats carry the same v in their highest
 * bits, and below it something that a conversion which loses bits cannot get right by accident:
 *
 *     S16_LE    v
 *     S24_3LE   (v << 8) | (v >> 8)                 in 3 bytes
 *     S24_LE    the same 24 bits, sign-extended     in 4 bytes
 *     S32_LE    (v << 16) | v
 *     FLOAT_LE  (int16) v / 32768
 *
 * COMMANDS. The first word of the ctl file, which must be replaced atomically (write another file, rename):
 *
 *     run       work
 *     unplug    ENODEV from open and from everything else. A handle that saw it stays dead, as with real cards
 *     hang      no error and no data; `run` goes on at the very next frame, as if the time had not passed
 *     xrun [n]  one overrun (EPIPE; the frames until the next start are lost). A new n forces another one
 *     storm     EPIPE at every attempt, although prepare and start succeed
 *     busy      EBUSY from open       eio     EIO from every read
 *     noperm    EACCES from open      badfd   EBADFD from every read
 *     gone      ENOENT from open
 *     stuck     a read does not return, as in a driver that waits for hardware for ever, until there is
 *               another command
 *
 * Commands that concern open do not disturb a capture that runs. The directory of the ctl file is watched
 * (inotify), so that a command reaches a program that sleeps in poll() too.
 *
 * COUNTERS. The stat file is `struct device` below, in host byte order. It is the device itself, as opposed to
 * one opening of it: it outlives a close, an unplug and the process. It is locked while the card is open, so a
 * second open gets EBUSY, as from a real card.
 */
#define _GNU_SOURCE
#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_CHOICES 16

/* "FAKECAR2": the file is complete, and of this version. */
#define DEVICE_MAGIC UINT64_C(0x32524143454b4146)

/* The stat file. A reader takes words 0 to 11; the rest is the card's own memory of its clock. */
struct device {
	uint64_t magic;         /*  0: DEVICE_MAGIC once initialised */
	_Atomic uint64_t sequence; /* 1: odd while the words below are being changed */
	uint64_t delivered;     /*  2: frames handed out, over the card's whole life */
	uint64_t next_frame;    /*  3: the n of the next frame that will be handed out */
	uint64_t opens;         /*  4 */
	uint64_t starts;        /*  5 */
	uint64_t overruns;      /*  6: forced ones and real ones */
	uint64_t rate;          /*  7: as chosen by the program, like the next three; 0 before */
	uint64_t channels;      /*  8 */
	uint64_t period_frames; /*  9 */
	uint64_t buffer_frames; /* 10 */
	uint64_t stuck_reads;   /* 11: reads that `stuck` has held, counted when they begin to hang */

	uint64_t clock_frame;   /* 12: at clock_ns the card was at this frame */
	uint64_t clock_ns;      /* 13: CLOCK_MONOTONIC; 0 before the first start */
	uint64_t frozen;        /* 14: the clock stands still at clock_frame: the card hangs */
	uint64_t last_xrun;     /* 15: 1 + the number of the xrun command obeyed last; 0 when there is none */
};

enum command { RUN, UNPLUG, HANG, XRUN, STORM, BUSY, EIO_ON_READ, BADFD_ON_READ, NOPERM, GONE, STUCK };

static const struct {
	const char *word;
	int open_error;
} commands[] = {
	[RUN] = { "run", 0 },           [UNPLUG] = { "unplug", -ENODEV },
	[HANG] = { "hang", 0 },         [XRUN] = { "xrun", 0 },
	[STORM] = { "storm", 0 },       [BUSY] = { "busy", -EBUSY },
	[EIO_ON_READ] = { "eio", 0 },   [BADFD_ON_READ] = { "badfd", 0 },
	[NOPERM] = { "noperm", -EACCES }, [GONE] = { "gone", -ENOENT },
	[STUCK] = { "stuck", 0 },
};

/* One opening of the card. Positions since the start are in frames, 0 at the start. */
struct card {
	snd_pcm_ioplug_t io;

	/* As configured. */
	char *ctl_path, *stat_path, *raw_path;
	double speed, ppm;
	unsigned int formats[MAX_CHOICES], rates[MAX_CHOICES], channels[MAX_CHOICES];
	unsigned int format_count, rate_count, channel_count;
	int16_t *raw;
	size_t raw_samples;

	struct device *device;
	int stat_fd;            /* holds the lock; -1 when the device lives in this process's memory alone */
	int ctl_watch;          /* inotify; -1 without a ctl file */
	int timer;              /* readable exactly when there is something to read */

	enum command command;
	uint64_t xrun_number;

	int running;
	int unplugged;          /* for good */
	int overrun;            /* until the next prepare */
	uint64_t start_frame;   /* n of the first frame after the start */
	uint64_t hw_position;   /* what libasound was told last */
	uint64_t read_position; /* handed out since the start */
	uint64_t wake_frames;   /* so many readable frames end a poll(): avail_min */
	uint64_t boundary;      /* libasound's positions wrap here */
};

/* ---- The device and its clock ---- */

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Every change of the device stands between these two, for readers in other processes. */
static void begin_change(struct device *device)
{
	atomic_fetch_add_explicit(&device->sequence, 1, memory_order_acquire);
}

static void end_change(struct device *device)
{
	atomic_fetch_add_explicit(&device->sequence, 1, memory_order_release);
}

static double frames_per_ns(const struct card *card)
{
	return (double)card->device->rate * card->speed * (1.0 + card->ppm / 1e6) / 1e9;
}

/* The frame at which the card is now. */
static uint64_t device_frame(const struct card *card)
{
	const struct device *device = card->device;
	if (!device->clock_ns || device->frozen)
		return device->clock_frame;
	return device->clock_frame + (uint64_t)((double)(now_ns() - device->clock_ns) * frames_per_ns(card));
}

/* When the card will be at that frame. The margin is for rounding: waking before it would be a busy loop. */
static uint64_t ns_of_frame(const struct card *card, uint64_t frame)
{
	const struct device *device = card->device;
	if (frame <= device->clock_frame)
		return device->clock_ns;
	return device->clock_ns + (uint64_t)((double)(frame - device->clock_frame) / frames_per_ns(card)) + 1000;
}

/* The clock goes on from that frame now. */
static void set_clock(struct device *device, uint64_t frame)
{
	device->clock_frame = frame;
	device->clock_ns = now_ns();
}

/* The device in the stat file, or in private memory if there is none. */
static int attach_device(struct card *card)
{
	struct stat info;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	if (card->stat_path) {
		card->stat_fd = open(card->stat_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (card->stat_fd < 0)
			return -errno;
		if (flock(card->stat_fd, LOCK_EX | LOCK_NB) < 0)
			return errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (fstat(card->stat_fd, &info) < 0)
			return -errno;
		if ((size_t)info.st_size < sizeof(struct device) && ftruncate(card->stat_fd, sizeof(struct device)) < 0)
			return -errno;
		flags = MAP_SHARED;
	}
	card->device = mmap(NULL, sizeof(struct device), PROT_READ | PROT_WRITE, flags, card->stat_fd, 0);
	if (card->device == MAP_FAILED) {
		card->device = NULL;
		return -errno;
	}
	if (card->device->sequence % 2) /* A process was killed in the middle of a change. */
		end_change(card->device);
	if (card->device->clock_ns > now_ns()) /* The file is older than this boot. */
		set_clock(card->device, card->device->clock_frame);
	begin_change(card->device);
	card->device->magic = DEVICE_MAGIC;
	card->device->opens++;
	end_change(card->device);
	return 0;
}

/* ---- Commands ---- */

/* Reads the ctl file. Whatever is not understood means run. */
static void read_command(struct card *card)
{
	char text[64] = "", word[16] = "";
	unsigned long long number = 0;
	size_t i;
	FILE *file;

	card->command = RUN;
	card->xrun_number = 0;
	if (!card->ctl_path || !(file = fopen(card->ctl_path, "re")))
		return;
	if (fgets(text, sizeof(text), file) && sscanf(text, "%15s %llu", word, &number) >= 1) {
		for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
			if (!strcmp(word, commands[i].word))
				card->command = (enum command)i;
		card->xrun_number = number;
	}
	fclose(file);
}

/* Watches the directory, because a file that is replaced or does not exist yet cannot be watched itself. */
static int watch_commands(struct card *card)
{
	char directory[PATH_MAX];
	char *slash;

	if (!card->ctl_path)
		return 0;
	if (snprintf(directory, sizeof(directory), "%s", card->ctl_path) >= (int)sizeof(directory))
		return -ENAMETOOLONG;
	slash = strrchr(directory, '/');
	if (!slash)
		strcpy(directory, ".");
	else
		slash[slash == directory] = '\0';
	card->ctl_watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (card->ctl_watch < 0)
		return -errno;
	if (inotify_add_watch(card->ctl_watch, directory, IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE) < 0)
		return -errno;
	return 0;
}

static int command_may_have_changed(struct card *card)
{
	char events[4096];
	int changed = 0;

	while (card->ctl_watch >= 0 && read(card->ctl_watch, events, sizeof(events)) > 0)
		changed = 1;
	return changed;
}

static void count_overrun(struct card *card)
{
	card->overrun = 1;
	begin_change(card->device);
	card->device->overruns++;
	end_change(card->device);
}

/* Hang, or end a hang. A card that hangs stands where libasound believes it to be: nothing that was not
 * readable before becomes readable, and nothing is skipped afterwards. */
static void set_frozen(struct card *card, int frozen)
{
	struct device *device = card->device;
	uint64_t frame = device_frame(card);

	if (!device->frozen == !frozen || !device->clock_ns)
		return;
	if (frozen && card->running)
		frame = card->start_frame + card->hw_position;
	begin_change(device);
	device->frozen = (uint64_t)frozen;
	set_clock(device, frame);
	end_change(device);
}

/* Makes the timer readable exactly when the program has something to read: data or an error. It is not
 * periodic and nobody reads it, so poll() neither misses a period nor returns for none. */
static void arm_timer(struct card *card)
{
	struct itimerspec when = { { 0, 0 }, { 0, 0 } };
	uint64_t period = card->io.period_size;
	uint64_t wanted, ns = 0;

	if (card->unplugged || card->overrun) {
		ns = 1; /* long ago */
	} else if (card->running && !card->device->frozen) {
		wanted = (card->read_position + card->wake_frames + period - 1) / period * period;
		ns = ns_of_frame(card, card->start_frame + wanted);
	}
	when.it_value.tv_sec = (time_t)(ns / 1000000000u);
	when.it_value.tv_nsec = (long)(ns % 1000000000u);
	timerfd_settime(card->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Does what the ctl file says, and notices when the reader is too late. Every callback in which either could
 * make a difference begins with it. */
static void update(struct card *card)
{
	struct device *device = card->device;

	if (command_may_have_changed(card)) {
		read_command(card);
		set_frozen(card, card->command == HANG);
		if (card->command != XRUN)
			device->last_xrun = 0;
		if (card->command == UNPLUG)
			card->unplugged = 1;
		arm_timer(card);
	}
	if (!card->running || card->unplugged || card->overrun)
		return;
	if (card->command == XRUN && device->last_xrun != card->xrun_number + 1) {
		device->last_xrun = card->xrun_number + 1;
		count_overrun(card);
	} else if (card->command == STORM) {
		count_overrun(card);
	} else if (device_frame(card) - card->start_frame > card->read_position + card->io.buffer_size) {
		count_overrun(card);
	}
	if (card->overrun)
		arm_timer(card);
}

/* ---- Samples ---- */

/* The 16-bit value of sample number i of the card's whole life. */
static uint16_t sample16(const struct card *card, uint64_t i)
{
	return card->raw ? (uint16_t)card->raw[i % card->raw_samples] : (uint16_t)i;
}

static void put_little_endian(uint8_t *out, uint32_t value, int bytes)
{
	while (bytes--) {
		*out++ = (uint8_t)value;
		value >>= 8;
	}
}

static void put_sample(uint8_t *out, snd_pcm_format_t format, uint16_t v)
{
	uint32_t s24 = (uint32_t)v << 8 | v >> 8;
	union { float f; uint32_t bits; } real;

	switch (format) {
	case SND_PCM_FORMAT_S24_3LE:
		put_little_endian(out, s24, 3);
		break;
	case SND_PCM_FORMAT_S24_LE:
		put_little_endian(out, s24 & 0x800000 ? s24 | 0xff000000 : s24, 4);
		break;
	case SND_PCM_FORMAT_S32_LE:
		put_little_endian(out, (uint32_t)v << 16 | v, 4);
		break;
	case SND_PCM_FORMAT_FLOAT_LE:
		real.f = (float)(int16_t)v / 32768.0f;
		put_little_endian(out, real.bits, 4);
		break;
	default:
		put_little_endian(out, v, 2);
	}
}

/* ---- What libasound calls ---- */

static int fakecard_hw_params(snd_pcm_ioplug_t *io, snd_pcm_hw_params_t *params)
{
	struct card *card = io->private_data;
	struct device *device = card->device;
	(void)params;

	update(card);
	if (card->unplugged)
		return -ENODEV;
	begin_change(device);
	if (device->clock_ns) /* Count on from here, whatever the new rate. */
		set_clock(device, device_frame(card));
	device->rate = io->rate;
	device->channels = io->channels;
	device->period_frames = io->period_size;
	device->buffer_frames = io->buffer_size;
	end_change(device);
	card->wake_frames = io->period_size;
	return 0;
}

static int fakecard_sw_params(snd_pcm_ioplug_t *io, snd_pcm_sw_params_t *params)
{
	struct card *card = io->private_data;
	snd_pcm_uframes_t avail_min;

	if (snd_pcm_sw_params_get_avail_min(params, &avail_min) == 0 && avail_min > 0)
		card->wake_frames = avail_min;
	arm_timer(card);
	return 0;
}

static int fakecard_prepare(snd_pcm_ioplug_t *io)
{
	struct card *card = io->private_data;
	snd_pcm_sw_params_t *params;
	snd_pcm_uframes_t boundary;

	card->running = 0;
	card->overrun = 0;
	card->hw_position = card->read_position = 0;
	update(card);
	arm_timer(card);
	if (card->unplugged)
		return -ENODEV;

	snd_pcm_sw_params_alloca(&params);
	if (snd_pcm_sw_params_current(io->pcm, params) < 0 || snd_pcm_sw_params_get_boundary(params, &boundary) < 0)
		return -EIO;
	card->boundary = boundary;
	return 0;
}

static int fakecard_start(snd_pcm_ioplug_t *io)
{
	struct card *card = io->private_data;
	struct device *device = card->device;

	update(card);
	if (card->unplugged)
		return -ENODEV;
	begin_change(device);
	/* Looked at once, before the clock starts: the first capture begins at frame 0 on a slow machine too. */
	card->start_frame = device_frame(card);
	if (!device->clock_ns) {
		set_clock(device, 0);
		device->frozen = card->command == HANG;
	}
	device->next_frame = card->start_frame;
	device->starts++;
	end_change(device);
	card->hw_position = card->read_position = 0;
	card->running = 1;
	update(card);
	arm_timer(card);
	return 0;
}

static int fakecard_stop(snd_pcm_ioplug_t *io)
{
	struct card *card = io->private_data;

	card->running = 0;
	arm_timer(card);
	return 0;
}

/* How far the card has come. An error from here can only become an overrun: libasound takes every negative
 * number as one. An unplugged card therefore says so in the state, and pretends that there is one more frame,
 * so that the program comes for it and gets the error from the transfer. */
static snd_pcm_sframes_t fakecard_pointer(snd_pcm_ioplug_t *io)
{
	struct card *card = io->private_data;
	uint64_t position;

	update(card);
	if (card->unplugged) {
		snd_pcm_ioplug_set_state(io, SND_PCM_STATE_DISCONNECTED);
		if (card->boundary && card->hw_position == card->read_position)
			card->hw_position++;
	} else if (card->overrun) {
		return -EPIPE;
	} else if (card->running) {
		position = device_frame(card) - card->start_frame;
		position -= position % io->period_size; /* Hardware tells a period at a time. */
		if (position > card->hw_position)
			card->hw_position = position;
	}
	return card->boundary ? (snd_pcm_sframes_t)(card->hw_position % card->boundary) : 0;
}

static snd_pcm_sframes_t fakecard_transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas,
					   snd_pcm_uframes_t offset, snd_pcm_uframes_t frames)
{
	struct card *card = io->private_data;
	struct device *device = card->device;
	uint64_t first, before = card->read_position;
	snd_pcm_uframes_t frame;
	unsigned int channel;

	update(card);
	if (card->command == STUCK) {
		begin_change(device);
		device->stuck_reads++;
		end_change(device);
	}
	while (card->command == STUCK) {
		usleep(10000);
		update(card);
	}
	if (card->unplugged)
		return -ENODEV;
	if (card->command == EIO_ON_READ)
		return -EIO;
	if (card->command == BADFD_ON_READ)
		return -EBADFD;

	/* Where the program is, and not where the last transfer ended: with mmap access it may ask again for
	 * frames that it did not take. */
	card->read_position = before - before % card->boundary + io->appl_ptr;
	if (card->read_position + card->boundary / 2 < before)
		card->read_position += card->boundary;
	first = card->start_frame + card->read_position;

	for (channel = 0; channel < io->channels; channel++) {
		const snd_pcm_channel_area_t *area = &areas[channel];
		uint8_t *out = (uint8_t *)area->addr + (area->first + area->step * offset) / 8;

		for (frame = 0; frame < frames; frame++, out += area->step / 8)
			put_sample(out, io->format, sample16(card, (first + frame) * io->channels + channel));
	}
	card->read_position += frames;

	begin_change(device);
	device->delivered += card->read_position - before;
	device->next_frame = card->start_frame + card->read_position;
	end_change(device);
	arm_timer(card);
	return (snd_pcm_sframes_t)frames;
}

/* Tells what a wake-up means: data, an error, or only that the ctl file was looked at. */
static int fakecard_poll_revents(snd_pcm_ioplug_t *io, struct pollfd *pfds, unsigned int count, unsigned short *revents)
{
	struct card *card = io->private_data;
	uint64_t position;
	(void)pfds;
	(void)count;

	*revents = 0;
	update(card);
	if (card->unplugged) {
		snd_pcm_ioplug_set_state(io, SND_PCM_STATE_DISCONNECTED);
		*revents = POLLIN | POLLERR;
	} else if (card->overrun) {
		snd_pcm_ioplug_set_state(io, SND_PCM_STATE_XRUN);
		*revents = POLLIN | POLLERR;
	} else if (card->running && !card->device->frozen) {
		position = device_frame(card) - card->start_frame;
		if (position - position % io->period_size >= card->read_position + card->wake_frames)
			*revents = POLLIN;
	}
	return 0;
}

static void free_card(struct card *card)
{
	if (card->io.poll_fd >= 0)
		close(card->io.poll_fd);
	if (card->timer >= 0)
		close(card->timer);
	if (card->ctl_watch >= 0)
		close(card->ctl_watch);
	if (card->device)
		munmap(card->device, sizeof(struct device));
	if (card->stat_fd >= 0) {
		/* A child that was forked at this moment still has the descriptor: unlock, do not only close. */
		flock(card->stat_fd, LOCK_UN);
		close(card->stat_fd);
	}
	free(card->ctl_path);
	free(card->stat_path);
	free(card->raw_path);
	free(card->raw);
	free(card);
}

static int fakecard_close(snd_pcm_ioplug_t *io)
{
	free_card(io->private_data);
	return 0;
}

static const snd_pcm_ioplug_callback_t callbacks = {
	.start = fakecard_start,
	.stop = fakecard_stop,
	.pointer = fakecard_pointer,
	.transfer = fakecard_transfer,
	.close = fakecard_close,
	.hw_params = fakecard_hw_params,
	.sw_params = fakecard_sw_params,
	.prepare = fakecard_prepare,
	.poll_revents = fakecard_poll_revents,
};

/* ---- Opening ---- */

static int read_string(snd_config_t *value, char **out)
{
	const char *text;
	int err = snd_config_get_string(value, &text);

	if (err < 0)
		return err;
	free(*out);
	*out = strdup(text);
	return *out ? 0 : -ENOMEM;
}

/* A list of whole numbers, or of names of formats. */
static int read_choices(snd_config_t *list, int of_formats, unsigned int *out, unsigned int *count)
{
	snd_config_iterator_t i, next;
	const char *name;
	long number;

	if (snd_config_get_type(list) != SND_CONFIG_TYPE_COMPOUND)
		return -EINVAL;
	*count = 0;
	snd_config_for_each(i, next, list) {
		snd_config_t *entry = snd_config_iterator_entry(i);

		if (*count == MAX_CHOICES)
			return -EINVAL;
		if (of_formats) {
			if (snd_config_get_string(entry, &name) < 0)
				return -EINVAL;
			number = snd_pcm_format_value(name);
			if (number != SND_PCM_FORMAT_S16_LE && number != SND_PCM_FORMAT_S24_3LE &&
			    number != SND_PCM_FORMAT_S24_LE && number != SND_PCM_FORMAT_S32_LE &&
			    number != SND_PCM_FORMAT_FLOAT_LE)
				return -EINVAL;
		} else if (snd_config_get_integer(entry, &number) < 0 || number <= 0) {
			return -EINVAL;
		}
		out[(*count)++] = (unsigned int)number;
	}
	return *count ? 0 : -EINVAL;
}

static int read_parameter(struct card *card, const char *id, snd_config_t *value)
{
	if (!strcmp(id, "type") || !strcmp(id, "comment") || !strcmp(id, "hint"))
		return 0;
	if (!strcmp(id, "ctl"))
		return read_string(value, &card->ctl_path);
	if (!strcmp(id, "stat"))
		return read_string(value, &card->stat_path);
	if (!strcmp(id, "raw"))
		return read_string(value, &card->raw_path);
	if (!strcmp(id, "speed"))
		return snd_config_get_ireal(value, &card->speed);
	if (!strcmp(id, "ppm"))
		return snd_config_get_ireal(value, &card->ppm);
	if (!strcmp(id, "formats"))
		return read_choices(value, 1, card->formats, &card->format_count);
	if (!strcmp(id, "rates"))
		return read_choices(value, 0, card->rates, &card->rate_count);
	if (!strcmp(id, "channels"))
		return read_choices(value, 0, card->channels, &card->channel_count);
	return -EINVAL;
}

static int read_parameters(struct card *card, snd_config_t *conf)
{
	snd_config_iterator_t i, next;

	snd_config_for_each(i, next, conf) {
		snd_config_t *value = snd_config_iterator_entry(i);
		const char *id;
		int err;

		if (snd_config_get_id(value, &id) < 0)
			continue;
		err = read_parameter(card, id, value);
		if (err < 0) {
			SNDERR("fakecard: %s: unknown parameter or wrong value", id);
			return err;
		}
	}
	if (card->ctl_path && !card->stat_path) {
		card->stat_path = malloc(strlen(card->ctl_path) + sizeof(".stat"));
		if (!card->stat_path)
			return -ENOMEM;
		strcpy(card->stat_path, card->ctl_path);
		strcat(card->stat_path, ".stat");
	}
	return card->speed > 0 && card->ppm > -1e6 ? 0 : -EINVAL;
}

static int load_raw(struct card *card)
{
	FILE *file;
	long bytes;

	if (!card->raw_path)
		return 0;
	file = fopen(card->raw_path, "re");
	if (!file) {
		SNDERR("fakecard: cannot open %s", card->raw_path);
		return -errno;
	}
	if (fseek(file, 0, SEEK_END) == 0 && (bytes = ftell(file)) >= 2) {
		rewind(file);
		card->raw_samples = (size_t)bytes / 2;
		card->raw = malloc(card->raw_samples * 2);
		if (card->raw && fread(card->raw, 2, card->raw_samples, file) != card->raw_samples) {
			free(card->raw);
			card->raw = NULL;
		}
	}
	fclose(file);
	return card->raw ? 0 : -EIO;
}

/* One descriptor for poll(), readable when the timer has run out or a command may have come. */
static int make_poll_descriptor(struct card *card)
{
	struct epoll_event event = { .events = EPOLLIN };

	card->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	card->io.poll_fd = epoll_create1(EPOLL_CLOEXEC);
	card->io.poll_events = POLLIN;
	if (card->timer < 0 || card->io.poll_fd < 0 ||
	    epoll_ctl(card->io.poll_fd, EPOLL_CTL_ADD, card->timer, &event) < 0)
		return -errno;
	if (card->ctl_watch >= 0 && epoll_ctl(card->io.poll_fd, EPOLL_CTL_ADD, card->ctl_watch, &event) < 0)
		return -errno;
	return 0;
}

/* What the card can do. Wide limits: periods from 2 ms of 8 kHz mono 16 bit to 500 ms of 192 kHz in 8 channels
 * of 32 bit, buffers up to 4 s of the latter. The access by mmap is there for `plug:`, which cannot convert
 * without it. Seen with libasound 1.2.8: when plug: converts the rate, the first two periods arrive as silence. */
static int set_constraints(struct card *card)
{
	static const unsigned int accesses[] = { SND_PCM_ACCESS_RW_INTERLEAVED, SND_PCM_ACCESS_MMAP_INTERLEAVED };
	snd_pcm_ioplug_t *io = &card->io;
	int err;

	if ((err = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_ACCESS, 2, accesses)) < 0 ||
	    (err = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_FORMAT, card->format_count, card->formats)) < 0 ||
	    (err = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_CHANNELS, card->channel_count, card->channels)) < 0 ||
	    (err = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_RATE, card->rate_count, card->rates)) < 0 ||
	    (err = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, 32, 4 << 20)) < 0 ||
	    (err = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_BUFFER_BYTES, 64, 32 << 20)) < 0 ||
	    (err = snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIODS, 2, 4096)) < 0)
		return err;
	return 0;
}

static struct card *new_card(void)
{
	struct card *card = calloc(1, sizeof(*card));

	if (!card)
		return NULL;
	card->speed = 1.0;
	card->formats[0] = SND_PCM_FORMAT_S16_LE;
	card->format_count = 1;
	card->rates[0] = 44100;
	card->rates[1] = 48000;
	card->rate_count = 2;
	card->channels[0] = 1;
	card->channels[1] = 2;
	card->channel_count = 2;
	card->stat_fd = card->ctl_watch = card->timer = card->io.poll_fd = -1;
	card->io.version = SND_PCM_IOPLUG_VERSION;
	card->io.name = "Fake card";
	/* BOUNDARY_WA: otherwise libasound takes an advance by a whole buffer for none. */
	card->io.flags = SND_PCM_IOPLUG_FLAG_LISTED | SND_PCM_IOPLUG_FLAG_MONOTONIC | SND_PCM_IOPLUG_FLAG_BOUNDARY_WA;
	card->io.callback = &callbacks;
	card->io.private_data = card;
	return card;
}

SND_PCM_PLUGIN_DEFINE_FUNC(fakecard)
{
	struct card *card;
	int err;
	(void)root;

	if (stream != SND_PCM_STREAM_CAPTURE)
		return -ENOENT; /* As from a card that has no such side. */
	card = new_card();
	if (!card)
		return -ENOMEM;
	/* The watch comes before the first look, so that no command falls between the two. */
	if ((err = read_parameters(card, conf)) < 0 || (err = watch_commands(card)) < 0)
		goto fail;
	read_command(card);
	if ((err = commands[card->command].open_error) < 0 || (err = load_raw(card)) < 0 ||
	    (err = attach_device(card)) < 0 || (err = make_poll_descriptor(card)) < 0 ||
	    (err = snd_pcm_ioplug_create(&card->io, name, stream, mode)) < 0)
		goto fail;
	set_frozen(card, card->command == HANG);
	if (card->command != XRUN)
		card->device->last_xrun = 0;

	err = set_constraints(card);
	if (err < 0) {
		snd_pcm_ioplug_delete(&card->io); /* This closes, and thereby frees, the card. */
		return err;
	}
	*pcmp = card->io.pcm;
	return 0;

fail:
	free_card(card);
	return err;
}

SND_PCM_PLUGIN_SYMBOL(fakecard);
