/* A virtual libnvidia-ml.so.1: GPUs whose power, energy, memory, processes and faults come from a text file.
 *
 * The file is named by the environment variable FAKE_NVML_STATE and looked at on every call, so a test can change the
 * hardware while real nvidia-ml-py runs on it. tests/fakes/nvml/__init__.py writes it and knows the format.
 * Power is a piecewise linear function of CLOCK_MONOTONIC, so the true energy of any interval has a closed form.
 * It does no training, sets nothing, and knows only the calls a reader needs; the others are missing symbols.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, LOST = 15 };
enum { MAX_GPUS = 16, MAX_ERAS = 16, MAX_SEGMENTS = 512, MAX_PROCESSES = 64, MAX_RULES = 64, MAX_UTIL = 100 };
#define MIB 1048576ULL
#define NOT_AVAILABLE (~0ULL)
#define API __attribute__((visibility("default"))) int

typedef struct { double duration_ns, from_w, to_w; } Segment;
typedef struct { int64_t start_ns; double base_mj; int repeat, first, count; } Era;
typedef struct { unsigned pid; double mib; char kind[8]; unsigned sm, memory; int64_t from_ns, until_ns; } Process;
typedef struct { char gpu[8], name[64]; int slow; double value; int64_t from_ns, until_ns; } Rule;
typedef struct {
    char uuid[96], name[96];
    double total_mib, reserved_mib, idle_mib, used_mib; /* used_mib < 0: idle mark + processes */
    double limit_w, counter_period_ns, instant_period_ns, instant_window_ns, average_window_ns, buffer_period_ns;
    int64_t frozen_at_ns, lost_at_ns; /* 0: never */
    unsigned long long throttle;
    unsigned temp_c, util, memory_util, sm_clock, memory_clock, buffer_count, major, minor, reap;
    int mig; /* -1: not supported */
    Era eras[MAX_ERAS];
    Segment segments[MAX_SEGMENTS];
    Process processes[MAX_PROCESSES];
    int n_eras, n_segments, n_processes;
} Gpu;
typedef struct { char driver[80]; int n_gpus, n_rules; Gpu gpus[MAX_GPUS]; Rule rules[MAX_RULES]; } State;

static State state;
static char handles[MAX_GPUS]; /* a device handle is the address of one of these */
static int references;
static FILE *held; /* the file last read, kept open so that its inode number is not used again */
static struct stat seen;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int64_t clock_ns(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- the state file ------------------------------------------------------------------------------------------- */

static void read_gpu_value(Gpu *gpu, const char *key, const char *text) {
    const struct { const char *key; double *at; } numbers[] = {
        {"memory_total_mib", &gpu->total_mib}, {"memory_reserved_mib", &gpu->reserved_mib},
        {"memory_idle_mib", &gpu->idle_mib}, {"memory_used_mib", &gpu->used_mib}, {"power_limit_w", &gpu->limit_w},
        {"counter_period_ns", &gpu->counter_period_ns}, {"instant_period_ns", &gpu->instant_period_ns},
        {"instant_window_ns", &gpu->instant_window_ns}, {"average_window_ns", &gpu->average_window_ns},
        {"buffer_period_ns", &gpu->buffer_period_ns}};
    const struct { const char *key; unsigned *at; } integers[] = {
        {"temp_c", &gpu->temp_c}, {"util_percent", &gpu->util}, {"memory_util_percent", &gpu->memory_util},
        {"sm_clock_mhz", &gpu->sm_clock}, {"memory_clock_mhz", &gpu->memory_clock}, {"buffer_count", &gpu->buffer_count},
        {"compute_major", &gpu->major}, {"compute_minor", &gpu->minor}, {"reap_dead_processes", &gpu->reap}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(key, numbers[i].key)) *numbers[i].at = strtod(text, NULL);
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        if (!strcmp(key, integers[i].key)) *integers[i].at = (unsigned)strtoul(text, NULL, 10);
    if (!strcmp(key, "uuid")) snprintf(gpu->uuid, sizeof gpu->uuid, "%.95s", text);
    if (!strcmp(key, "name")) snprintf(gpu->name, sizeof gpu->name, "%.95s", text);
    if (!strcmp(key, "throttle_reasons")) gpu->throttle = strtoull(text, NULL, 10);
    if (!strcmp(key, "frozen_at_ns")) gpu->frozen_at_ns = strtoll(text, NULL, 10);
    if (!strcmp(key, "lost_at_ns")) gpu->lost_at_ns = strtoll(text, NULL, 10);
    if (!strcmp(key, "mig_mode")) gpu->mig = atoi(text);
    if (!strcmp(key, "era") && gpu->n_eras < MAX_ERAS) {
        Era *era = &gpu->eras[gpu->n_eras++];
        era->first = gpu->n_segments;
        sscanf(text, "%ld %lf %d", &era->start_ns, &era->base_mj, &era->repeat);
    }
    if (!strcmp(key, "segment") && gpu->n_eras && gpu->n_segments < MAX_SEGMENTS) { /* belongs to the era above it */
        Segment *segment = &gpu->segments[gpu->n_segments++];
        sscanf(text, "%lf %lf %lf", &segment->duration_ns, &segment->from_w, &segment->to_w);
        gpu->eras[gpu->n_eras - 1].count++;
    }
    if (!strcmp(key, "process") && gpu->n_processes < MAX_PROCESSES) {
        Process *p = &gpu->processes[gpu->n_processes++];
        sscanf(text, "%u %lf %7s %u %u %ld %ld", &p->pid, &p->mib, p->kind, &p->sm, &p->memory, &p->from_ns, &p->until_ns);
    }
}

static void read_line(char *line) {
    int index = 0, at = 0;
    char key[64], verb[8];
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "gpu %d %63s %n", &index, key, &at) == 2 && at && index >= 0 && index < MAX_GPUS) {
        if (index >= state.n_gpus) state.n_gpus = index + 1;
        read_gpu_value(&state.gpus[index], key, line + at);
    } else if (!strncmp(line, "driver ", 7)) {
        snprintf(state.driver, sizeof state.driver, "%.79s", line + 7);
    } else if (state.n_rules < MAX_RULES) {
        Rule *r = &state.rules[state.n_rules];
        int found = sscanf(line, "%7s %7s %63s %lf %ld %ld", verb, r->gpu, r->name, &r->value, &r->from_ns, &r->until_ns);
        if (found == 6 && (!strcmp(verb, "fail") || !strcmp(verb, "slow"))) {
            r->slow = verb[0] == 's';
            state.n_rules++;
        }
    }
}

static int reload(void) { /* 0 where there is no readable state */
    const char *path = getenv("FAKE_NVML_STATE");
    struct stat now;
    char line[512];
    if (!path || stat(path, &now)) return 0;
    if (held && now.st_ino == seen.st_ino && now.st_dev == seen.st_dev && now.st_size == seen.st_size &&
        now.st_mtim.tv_sec == seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return 1;
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    if (held) fclose(held);
    held = file;
    fstat(fileno(file), &seen);
    memset(&state, 0, sizeof state);
    while (fgets(line, sizeof line, file)) read_line(line);
    return 1;
}

/* ---- true power and energy ------------------------------------------------------------------------------------ */

static double partial_mj(const Gpu *gpu, const Era *era, double ns, double *watts) {
    double energy = 0;
    for (int i = 0; i < era->count; i++) {
        const Segment *s = &gpu->segments[era->first + i];
        double inside = ns < s->duration_ns ? ns : s->duration_ns;
        double slope = s->duration_ns > 0 ? (s->to_w - s->from_w) / s->duration_ns : 0;
        *watts = s->from_w + slope * inside;
        energy += (s->from_w + *watts) / 2 * inside * 1e-6;
        ns -= inside;
        if (ns <= 0) return energy;
    }
    return energy + *watts * ns * 1e-6; /* after the last segment its final power is kept */
}

static double era_mj(const Gpu *gpu, const Era *era, double t_ns, double *watts) {
    double total_ns = 0, ns = t_ns - (double)era->start_ns;
    if (ns < 0) ns = 0; /* before the first era: off */
    for (int i = 0; i < era->count; i++) total_ns += gpu->segments[era->first + i].duration_ns;
    if (!era->repeat || total_ns <= 0) return era->base_mj + partial_mj(gpu, era, ns, watts);
    double rounds = floor(ns / total_ns);
    double whole = partial_mj(gpu, era, total_ns, watts);
    return era->base_mj + rounds * whole + partial_mj(gpu, era, ns - rounds * total_ns, watts);
}

static double energy_mj(const Gpu *gpu, double t_ns, double *watts) {
    double ignored;
    const Era *era = NULL;
    if (!watts) watts = &ignored;
    *watts = 0;
    for (int i = 0; i < gpu->n_eras; i++)
        if (!i || (double)gpu->eras[i].start_ns <= t_ns) era = &gpu->eras[i];
    return era ? era_mj(gpu, era, t_ns, watts) : 0;
}

static double mean_w(const Gpu *gpu, double end_ns, double window_ns) {
    double watts, ignored;
    double used = energy_mj(gpu, end_ns, &watts);
    double start_ns = end_ns - window_ns;
    if (gpu->n_eras && start_ns < (double)gpu->eras[0].start_ns) start_ns = (double)gpu->eras[0].start_ns;
    if (window_ns <= 0 || end_ns <= start_ns) return watts; /* a point sensor, or no history yet */
    used -= energy_mj(gpu, start_ns, NULL);
    for (int i = 1; i < gpu->n_eras; i++) { /* a counter that was reset meanwhile is nothing that power knows */
        double at_ns = (double)gpu->eras[i].start_ns;
        if (start_ns < at_ns && at_ns <= end_ns)
            used -= gpu->eras[i].base_mj - era_mj(gpu, &gpu->eras[i - 1], at_ns, &ignored);
    }
    return used / (end_ns - start_ns) * 1e6;
}

static double grid(double t_ns, double period_ns) { return period_ns > 0 ? floor(t_ns / period_ns) * period_ns : t_ns; }

static unsigned sensor_mw(const Gpu *gpu, double window_ns) {
    double now = grid((double)clock_ns(CLOCK_MONOTONIC), gpu->instant_period_ns);
    return (unsigned)(mean_w(gpu, now, window_ns) * 1000 + 0.5);
}

/* ---- entering and leaving a call ------------------------------------------------------------------------------ */

static int rule_applies(const Rule *rule, int index, const char *name, int64_t now) {
    size_t length = strlen(rule->name);
    if (strncmp(rule->name, name, length) || (name[length] && strncmp(name + length, "_v", 2))) return 0;
    if (strcmp(rule->gpu, "*") && atoi(rule->gpu) != index) return 0;
    return now >= rule->from_ns && (!rule->until_ns || now < rule->until_ns);
}

static int rule_code(int index, const char *name) {
    for (int i = 0; i < state.n_rules; i++)
        if (!state.rules[i].slow && rule_applies(&state.rules[i], index, name, clock_ns(CLOCK_MONOTONIC)))
            return (int)state.rules[i].value;
    return OK;
}

static void be_slow(int index, const char *name) { /* called with the lock held; sleeps without it */
    double ms = 0;
    for (int i = 0; i < state.n_rules; i++)
        if (state.rules[i].slow && rule_applies(&state.rules[i], index, name, clock_ns(CLOCK_MONOTONIC)))
            ms += state.rules[i].value;
    if (ms <= 0) return;
    struct timespec pause = {(time_t)(ms / 1000), (long)(fmod(ms, 1000) * 1e6)};
    pthread_mutex_unlock(&lock);
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&lock);
}

static int is_lost(const Gpu *gpu) { return gpu->lost_at_ns && clock_ns(CLOCK_MONOTONIC) >= gpu->lost_at_ns; }

static int leave(int code) {
    pthread_mutex_unlock(&lock);
    return code;
}

static int enter(const char *name, int needs_init) { /* OK: the lock is held */
    pthread_mutex_lock(&lock);
    int there = reload();
    be_slow(-1, name);
    if (needs_init && references <= 0) return leave(UNINITIALIZED);
    if (!there) return leave(NO_DRIVER);
    int code = rule_code(-1, name);
    return code ? leave(code) : OK;
}

static int enter_gpu(const void *handle, const char *name, Gpu **gpu) { /* OK: the lock is held */
    pthread_mutex_lock(&lock);
    int there = reload();
    ptrdiff_t index = (const char *)handle - handles;
    if (references <= 0) return leave(UNINITIALIZED);
    if (!there) return leave(NO_DRIVER);
    if (index < 0 || index >= state.n_gpus) return leave(INVALID);
    be_slow((int)index, name);
    *gpu = &state.gpus[index];
    if (is_lost(*gpu)) return leave(LOST);
    int code = rule_code((int)index, name);
    return code ? leave(code) : OK;
}

/* ---- library, devices ----------------------------------------------------------------------------------------- */

API nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int code = enter("nvmlInit", 0);
    if (code) return code;
    references++;
    return leave(OK);
}
API nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API nvmlInit(void) { return nvmlInitWithFlags(0); }
API nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    return leave(references > 0 ? (references--, OK) : UNINITIALIZED);
}

__attribute__((visibility("default"))) const char *nvmlErrorString(int code) {
    return code == OK ? "Success" : code == LOST ? "GPU is lost" : "Virtual NVML error";
}

static int copy_text(char *to, unsigned length, const char *text) {
    if (!to || strlen(text) >= length) return TOO_SMALL;
    strcpy(to, text);
    return OK;
}

API nvmlSystemGetDriverVersion(char *to, unsigned length) {
    int code = enter(__func__, 1);
    return code ? code : leave(copy_text(to, length, state.driver));
}
API nvmlSystemGetNVMLVersion(char *to, unsigned length) {
    int code = enter(__func__, 1);
    return code ? code : leave(copy_text(to, length, "13.580.0"));
}
API nvmlSystemGetCudaDriverVersion_v2(int *version) {
    int code = enter(__func__, 1);
    if (code) return code;
    *version = 13000;
    return leave(OK);
}
API nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }
API nvmlDeviceGetCount_v2(unsigned *count) {
    int code = enter(__func__, 1);
    if (code) return code;
    *count = (unsigned)state.n_gpus;
    return leave(OK);
}

static int handle_at(int index, void **handle, const char *name) {
    if (index < 0 || index >= state.n_gpus) return leave(INVALID);
    if (is_lost(&state.gpus[index])) return leave(LOST);
    *handle = &handles[index];
    return leave(rule_code(index, name));
}
API nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    int code = enter(__func__, 1);
    return code ? code : handle_at((int)index, handle, __func__);
}
API nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    int code = enter(__func__, 1);
    if (code) return code;
    for (int i = 0; i < state.n_gpus; i++)
        if (!strcmp(state.gpus[i].uuid, uuid)) return handle_at(i, handle, __func__);
    return leave(NOT_FOUND);
}

/* A getter: enters with the GPU, runs the body, leaves with OK (or with the code the body returns itself). */
#define GETTER(name, arguments, ...) \
    API name arguments { \
        Gpu *gpu; \
        int code = enter_gpu(device, __func__, &gpu); \
        if (code) return code; \
        __VA_ARGS__; \
        return leave(OK); \
    }
#define GET_UNSIGNED(name, value) GETTER(name, (void *device, unsigned *to), *to = (unsigned)(value))

GETTER(nvmlDeviceGetUUID, (void *device, char *to, unsigned length), return leave(copy_text(to, length, gpu->uuid)))
GETTER(nvmlDeviceGetName, (void *device, char *to, unsigned length), return leave(copy_text(to, length, gpu->name)))
GETTER(nvmlDeviceGetCudaComputeCapability, (void *device, int *major, int *minor),
       *major = (int)gpu->major; *minor = (int)gpu->minor)
GET_UNSIGNED(nvmlDeviceGetIndex, gpu - state.gpus)
GET_UNSIGNED(nvmlDeviceGetMinorNumber, gpu - state.gpus)
GET_UNSIGNED(nvmlDeviceGetBrand, 0)
GET_UNSIGNED(nvmlDeviceGetArchitecture, gpu->major) /* near enough: 8 Ada/Ampere, 9 Hopper */
GET_UNSIGNED(nvmlDeviceGetComputeMode, 0)
GET_UNSIGNED(nvmlDeviceGetPersistenceMode, 1)
GET_UNSIGNED(nvmlDeviceGetPowerManagementLimit, gpu->limit_w * 1000)
GET_UNSIGNED(nvmlDeviceGetPowerManagementDefaultLimit, gpu->limit_w * 1000)
GET_UNSIGNED(nvmlDeviceGetEnforcedPowerLimit, gpu->limit_w * 1000)
GETTER(nvmlDeviceGetPowerManagementLimitConstraints, (void *device, unsigned *low, unsigned *high),
       *low = 100000; *high = (unsigned)(gpu->limit_w * 1000))

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } PciInfo;
GETTER(nvmlDeviceGetPciInfo_v3, (void *device, PciInfo *to),
       memset(to, 0, sizeof *to); to->bus = (unsigned)(gpu - state.gpus) + 1;
       snprintf(to->legacy, sizeof to->legacy, "0000:%02X:00.0", to->bus & 0xffU);
       snprintf(to->bus_id, sizeof to->bus_id, "00000000:%02X:00.0", to->bus & 0xffU))

GETTER(nvmlDeviceGetMigMode, (void *device, unsigned *current, unsigned *pending),
       if (gpu->mig < 0) return leave(NOT_SUPPORTED);
       *current = *pending = (unsigned)gpu->mig)
GET_UNSIGNED(nvmlDeviceGetMaxMigDeviceCount, gpu->mig > 0 ? 7 : 0)
GETTER(nvmlDeviceGetMigDeviceHandleByIndex, (void *device, unsigned index, void **to),
       (void)index; (void)to; return leave(NOT_FOUND))

/* ---- sensors -------------------------------------------------------------------------------------------------- */

static unsigned long long counter_mj(const Gpu *gpu) {
    double now = (double)clock_ns(CLOCK_MONOTONIC);
    if (gpu->frozen_at_ns && now > (double)gpu->frozen_at_ns) now = (double)gpu->frozen_at_ns;
    double at = grid(now, gpu->counter_period_ns);
    if (gpu->n_eras && at < (double)gpu->eras[0].start_ns) at = (double)gpu->eras[0].start_ns;
    return (unsigned long long)(energy_mj(gpu, at, NULL) + 1e-6);
}
GETTER(nvmlDeviceGetTotalEnergyConsumption, (void *device, unsigned long long *to), *to = counter_mj(gpu))
GET_UNSIGNED(nvmlDeviceGetPowerUsage, sensor_mw(gpu, gpu->average_window_ns))
GETTER(nvmlDeviceGetTemperature, (void *device, unsigned sensor, unsigned *to), (void)sensor; *to = gpu->temp_c)
typedef struct { unsigned version, sensor; int temperature; } Temperature;
GETTER(nvmlDeviceGetTemperatureV, (void *device, Temperature *to), to->temperature = (int)gpu->temp_c)
typedef struct { unsigned gpu, memory; } Utilization;
GETTER(nvmlDeviceGetUtilizationRates, (void *device, Utilization *to),
       if (gpu->mig > 0) return leave(NOT_SUPPORTED);
       to->gpu = gpu->util; to->memory = gpu->memory_util)
GETTER(nvmlDeviceGetClockInfo, (void *device, unsigned type, unsigned *to),
       *to = type == 2 ? gpu->memory_clock : gpu->sm_clock)
GETTER(nvmlDeviceGetCurrentClocksEventReasons, (void *device, unsigned long long *to), *to = gpu->throttle)
GETTER(nvmlDeviceGetCurrentClocksThrottleReasons, (void *device, unsigned long long *to), *to = gpu->throttle)

typedef union { double d; unsigned u; unsigned long ul; unsigned long long ull; } Value;
typedef struct { unsigned field, scope; int64_t timestamp, latency; unsigned type; int code; Value value; } Field;
enum { TOTAL_ENERGY = 83, POWER_AVERAGE = 185, POWER_INSTANT = 186 };

static void read_field(const Gpu *gpu, Field *field) {
    char name[24];
    snprintf(name, sizeof name, "field:%u", field->field);
    field->timestamp = clock_ns(CLOCK_REALTIME) / 1000;
    field->type = field->field == TOTAL_ENERGY ? 3 : 1;
    field->code = rule_code((int)(gpu - state.gpus), name);
    if (field->code) return;
    if (field->field == TOTAL_ENERGY) field->value.ull = counter_mj(gpu);
    else if (field->field == POWER_AVERAGE) field->value.u = sensor_mw(gpu, gpu->average_window_ns);
    else if (field->field == POWER_INSTANT) field->value.u = sensor_mw(gpu, gpu->instant_window_ns);
    else field->code = NOT_SUPPORTED;
}
GETTER(nvmlDeviceGetFieldValues, (void *device, int count, Field *fields),
       for (int i = 0; i < count; i++) read_field(gpu, &fields[i]))

typedef struct { unsigned long long timestamp_us; Value value; } Sample;
GETTER(nvmlDeviceGetSamples,
       (void *device, unsigned kind, unsigned long long last_us, unsigned *type, unsigned *count, Sample *to), {
    if (kind) return leave(NOT_SUPPORTED);
    int64_t wall = clock_ns(CLOCK_REALTIME), offset = wall - clock_ns(CLOCK_MONOTONIC);
    unsigned room = *count, found = 0;
    *type = 1;
    if (!to) return leave((*count = gpu->buffer_count, OK));
    for (unsigned back = gpu->buffer_count; back-- > 0 && found < room;) { /* the grid is of wall time: stamps are stable */
        double at = grid((double)wall, gpu->buffer_period_ns) - back * gpu->buffer_period_ns;
        if (at / 1000 <= (double)last_us) continue;
        to[found].timestamp_us = (unsigned long long)(at / 1000);
        to[found++].value.u = (unsigned)(mean_w(gpu, at - (double)offset, gpu->buffer_period_ns) * 1000 + 0.5);
    }
    *count = found;
    return leave(found ? OK : NOT_FOUND);
})

/* ---- processes, memory ---------------------------------------------------------------------------------------- */

static int lives(const Gpu *gpu, const Process *p, int64_t t_ns) {
    if (t_ns < p->from_ns || (p->until_ns && t_ns >= p->until_ns)) return 0;
    return !gpu->reap || !kill((pid_t)p->pid, 0) || errno != ESRCH;
}

static int repeated(const Gpu *gpu, int i) { /* in two lists (compute, graphics), but one process */
    for (int k = 0; k < i; k++)
        if (gpu->processes[k].pid == gpu->processes[i].pid) return 1;
    return 0;
}

static double used_mib(const Gpu *gpu) {
    double sum = gpu->idle_mib;
    if (gpu->used_mib >= 0) return gpu->used_mib;
    for (int i = 0; i < gpu->n_processes; i++) {
        const Process *p = &gpu->processes[i];
        if (p->mib > 0 && !repeated(gpu, i) && lives(gpu, p, clock_ns(CLOCK_MONOTONIC))) sum += p->mib;
    }
    return sum;
}

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
static unsigned long long bytes(double mib) { return (unsigned long long)(mib * (double)MIB); }
GETTER(nvmlDeviceGetMemoryInfo, (void *device, Memory *to),
       to->total = bytes(gpu->total_mib); to->used = bytes(used_mib(gpu) + gpu->reserved_mib);
       to->free = to->total - to->used)
GETTER(nvmlDeviceGetMemoryInfo_v2, (void *device, MemoryV2 *to),
       to->total = bytes(gpu->total_mib); to->reserved = bytes(gpu->reserved_mib); to->used = bytes(used_mib(gpu));
       to->free = to->total - to->used - to->reserved)

typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } ProcessInfo;
static int list_processes(const Gpu *gpu, const char *kind, unsigned *count, ProcessInfo *to) {
    unsigned room = *count, found = 0;
    for (int i = 0; i < gpu->n_processes; i++) {
        const Process *p = &gpu->processes[i];
        if (strcmp(p->kind, kind) || !lives(gpu, p, clock_ns(CLOCK_MONOTONIC))) continue;
        if (to && found < room) to[found] = (ProcessInfo){p->pid, p->mib < 0 ? NOT_AVAILABLE : bytes(p->mib), ~0U, ~0U};
        found++;
    }
    *count = found;
    return found > room ? TOO_SMALL : OK;
}
#define PROCESS_LIST(name, kind) \
    GETTER(name, (void *device, unsigned *count, ProcessInfo *to), return leave(list_processes(gpu, kind, count, to)))
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphic")
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps")

typedef struct { unsigned pid; unsigned long long timestamp_us; unsigned sm, memory, encoder, decoder; } UtilSample;
/* As the real driver: one sample a process and call, its mean since `last_us` (at most what the buffer spans), with the
   stamp of the last of the driver's periods in which it did something. */
static unsigned util_samples(const Gpu *gpu, unsigned long long last_us, UtilSample *to) {
    const int64_t period = 250000000; /* about four a second, as on an H100 */
    int64_t wall = clock_ns(CLOCK_REALTIME), offset = wall - clock_ns(CLOCK_MONOTONIC);
    unsigned found = 0;
    for (int i = 0; i < gpu->n_processes && found < MAX_UTIL; i++) {
        const Process *p = &gpu->processes[i];
        int64_t newest = 0, periods = 0, busy = 0;
        for (int64_t at = (wall / period - 15) * period; at <= wall; at += period) {
            if ((unsigned long long)at / 1000 <= last_us) continue;
            periods++;
            if (repeated(gpu, i) || !lives(gpu, p, at - offset)) continue;
            newest = at;
            busy++;
        }
        if (busy && (p->sm || p->memory))
            to[found++] = (UtilSample){p->pid, (unsigned long long)newest / 1000,
                                       (unsigned)(p->sm * busy / periods), (unsigned)(p->memory * busy / periods), 0, 0};
    }
    return found;
}
GETTER(nvmlDeviceGetProcessUtilization, (void *device, UtilSample *to, unsigned *count, unsigned long long last_us), {
    static UtilSample buffer[MAX_UTIL];
    unsigned room = *count, found = util_samples(gpu, last_us, buffer);
    if (!found) return leave(NOT_FOUND);
    *count = to ? (found < room ? found : room) : found;
    if (!to) return leave(TOO_SMALL);
    memcpy(to, buffer, *count * sizeof *to);
})
