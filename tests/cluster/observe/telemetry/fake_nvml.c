/* A libnvidia-ml.so.1 without a driver. It answers from the text that FakeNode.to_text writes to $FAKE_NVML_STATE and
 * reads it again whenever the file changes, so a test can move the world while the code under test runs.
 * Built by tests/cluster/observe/telemetry/conftest.py; -DOLD_DRIVER leaves out what drivers before 510 do not have. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int Ret;
typedef unsigned long long u64;
enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMED_OUT = 10 };
enum { MAX_DEVICES = 96, MAX_KEYS = 24, MAX_FIELDS = 32, MAX_PROCESSES = 16, MAX_FAULTS = 8, MAX_OFFERS = 18, MAX_EVENTS = 64 };

typedef struct { char key[16]; long long value; } Key;
typedef struct { unsigned id; Ret code; unsigned type; long long value; } Field;
typedef struct { unsigned pid; long long memory; unsigned sm; } Process;
typedef struct { unsigned number, slices, most, sms; u64 memory_mb; char name[96]; } Offer;
typedef struct { char function[64]; Ret code; unsigned after; int hangs; } Fault;
typedef struct {
  char uuid[80], name[64];
  int parent, slot, order; /* parent: index of the GPU, -1 for a GPU itself */
  Key keys[MAX_KEYS]; int key_count;
  Field fields[MAX_FIELDS]; int field_count;
  Process processes[MAX_PROCESSES]; int process_count;
  Fault faults[MAX_FAULTS]; int fault_count;
  Offer offers[MAX_OFFERS]; int offer_count;
} Device;
typedef struct { int gpu; u64 type, data; unsigned instance; } Event;

static Device devices[MAX_DEVICES];
static int device_count, gpu_count, opened, init_code, cuda;
static char driver[64];
static Event events[MAX_EVENTS];
static int event_count, events_delivered;
static struct { char uuid[80]; unsigned calls; } counters[MAX_DEVICES];
static struct timespec read_at;
static off_t read_size = -1;

static void add_line(char *line) {
  Device *last = device_count ? &devices[device_count - 1] : 0;
  char word[80], name[64]; long long a, b, c, d;
  if (sscanf(line, "driver %63s", driver) == 1) return;
  if (sscanf(line, "cuda %lld", &a) == 1) { cuda = (int)a; return; }
  if (sscanf(line, "init %lld", &a) == 1) { init_code = (int)a; return; }
  if (sscanf(line, "event %lld %lld %lld %lld", &a, &b, &c, &d) == 4 && event_count < MAX_EVENTS) {
    events[event_count++] = (Event){(int)a, (u64)b, (u64)c, (unsigned)d}; return;
  }
  if (sscanf(line, "gpu %79s %63s", word, name) == 2 && device_count < MAX_DEVICES) {
    Device *gpu = &devices[device_count++]; memset(gpu, 0, sizeof *gpu);
    strcpy(gpu->uuid, word); strcpy(gpu->name, name); gpu->parent = -1; gpu->order = gpu_count++;
    for (char *at = gpu->name; *at; at++) if (*at == '_') *at = ' ';
    return;
  }
  if (sscanf(line, "mig %79s", word) == 1 && last && device_count < MAX_DEVICES) {
    int parent = last->parent < 0 ? device_count - 1 : last->parent, slot = last->parent < 0 ? 0 : last->slot + 1;
    Device *mig = &devices[device_count++]; memset(mig, 0, sizeof *mig);
    strcpy(mig->uuid, word); strcpy(mig->name, devices[parent].name); mig->parent = parent; mig->slot = slot;
    return;
  }
  if (!last) return;
  if (sscanf(line, "set %15s %lld", word, &a) == 2 && last->key_count < MAX_KEYS) {
    strcpy(last->keys[last->key_count].key, word); last->keys[last->key_count++].value = a;
  } else if (sscanf(line, "field %lld %lld %lld %lld", &a, &b, &c, &d) == 4 && last->field_count < MAX_FIELDS) {
    last->fields[last->field_count++] = (Field){(unsigned)a, (Ret)b, (unsigned)c, d};
  } else if (sscanf(line, "proc %lld %lld %lld", &a, &b, &c) == 3 && last->process_count < MAX_PROCESSES) {
    last->processes[last->process_count++] = (Process){(unsigned)a, b, (unsigned)c};
  } else if (sscanf(line, "fail %63s %lld %lld", name, &a, &b) == 3 && last->fault_count < MAX_FAULTS) {
    Fault *fault = &last->faults[last->fault_count++]; memset(fault, 0, sizeof *fault);
    strcpy(fault->function, name); fault->code = (Ret)a; fault->after = (unsigned)b;
  } else if (sscanf(line, "offer %lld %lld %lld %lld", &a, &b, &c, &d) == 4 && last->offer_count < MAX_OFFERS) {
    Offer *offer = &last->offers[last->offer_count++]; memset(offer, 0, sizeof *offer);
    offer->number = (unsigned)a; offer->slices = (unsigned)b; offer->most = (unsigned)c; offer->memory_mb = (u64)d;
    sscanf(line, "offer %*s %*s %*s %*s %u %95s", &offer->sms, offer->name);
  } else if (sscanf(line, "hang %63s", name) == 1 && last->fault_count < MAX_FAULTS) {
    Fault *fault = &last->faults[last->fault_count++]; memset(fault, 0, sizeof *fault);
    strcpy(fault->function, name); fault->hangs = 1;
  }
}

static char state_path[512];
void fake_nvml_state(const char *path) { strncpy(state_path, path, sizeof state_path - 1); read_size = -1; events_delivered = 0; memset(counters, 0, sizeof counters); }

static void read_again(void) {
  const char *path = state_path[0] ? state_path : getenv("FAKE_NVML_STATE");
  struct stat now;
  if (!path || stat(path, &now)) return;
  if (now.st_size == read_size && now.st_mtim.tv_sec == read_at.tv_sec && now.st_mtim.tv_nsec == read_at.tv_nsec) return;
  FILE *file = fopen(path, "r");
  if (!file) return;
  char line[256];
  device_count = gpu_count = event_count = 0;
  while (fgets(line, sizeof line, file)) add_line(line);
  fclose(file);
  read_at = now.st_mtim; read_size = now.st_size;
}

/* Devices are read from several threads at once; the first to see a new file reads it, the others wait. */
static void refresh(void) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&lock);
  read_again();
  pthread_mutex_unlock(&lock);
}

static long long get(Device *device, const char *key) {
  for (int i = 0; i < device->key_count; i++) if (!strcmp(device->keys[i].key, key)) return device->keys[i].value;
  return 0;
}
static Device *whole(Device *device) { return device->parent < 0 ? device : &devices[device->parent]; }

static Ret fault_of(Device *device, const char *function) {
  Device *gpu = whole(device);
  unsigned calls = 0;
  for (int i = 0; i < MAX_DEVICES; i++) {
    if (counters[i].uuid[0] && strcmp(counters[i].uuid, gpu->uuid)) continue;
    strcpy(counters[i].uuid, gpu->uuid); calls = ++counters[i].calls; break;
  }
  for (int i = 0; i < gpu->fault_count; i++) {
    Fault *fault = &gpu->faults[i];
    if (strcmp(fault->function, function) && strcmp(fault->function, "*")) continue;
    if (fault->hangs) sleep(30);
    else if (calls > fault->after) return fault->code;
  }
  return OK;
}

/* Every device function begins like this: library open, handle known, no scripted fault. */
#define ENTER(handle) \
  refresh(); \
  if (!opened) return UNINITIALIZED; \
  if ((long)(handle) < 1 || (long)(handle) > device_count) return INVALID; \
  Device *device = &devices[(long)(handle) - 1]; \
  Ret fault = fault_of(device, __func__); \
  if (fault) return fault; \
  (void)device

Ret nvmlInitWithFlags(unsigned flags) { (void)flags; refresh(); if (!init_code) opened++; return init_code; }
Ret nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
Ret nvmlShutdown(void) { if (!opened) return UNINITIALIZED; opened--; return OK; }
const char *nvmlErrorString(Ret code) { return code ? "scripted fault" : "success"; }
Ret nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "%s", driver); return OK; }
Ret nvmlSystemGetNVMLVersion(char *out, unsigned size) { snprintf(out, size, "13.%s", driver); return OK; }
Ret nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = cuda; return OK; }
Ret nvmlDeviceGetCount_v2(unsigned *out) { refresh(); if (!opened) return UNINITIALIZED; *out = (unsigned)gpu_count; return OK; }

Ret nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
  refresh();
  if (!opened) return UNINITIALIZED;
  for (int i = 0; i < device_count; i++)
    if (devices[i].parent < 0 && devices[i].order == (int)index) { *out = (void *)(long)(i + 1); return fault_of(&devices[i], __func__); }
  return INVALID;
}
Ret nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
  refresh();
  if (!opened) return UNINITIALIZED;
  for (int i = 0; i < device_count; i++)
    if (!strcmp(devices[i].uuid, uuid)) { *out = (void *)(long)(i + 1); return fault_of(&devices[i], __func__); }
  return NOT_FOUND;
}

Ret nvmlDeviceGetUUID(void *h, char *out, unsigned size) { ENTER(h); snprintf(out, size, "%s", device->uuid); return OK; }
Ret nvmlDeviceGetName(void *h, char *out, unsigned size) { ENTER(h); snprintf(out, size, "%s", device->name); return OK; }
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
Ret nvmlDeviceGetPciInfo_v3(void *h, Pci *out) { ENTER(h); snprintf(out->bus_id, 32, "00000000:%02X:00.0", 9 + whole(device)->order); return OK; }
Ret nvmlDeviceGetMinorNumber(void *h, unsigned *out) { ENTER(h); *out = (unsigned)whole(device)->order; return OK; }
Ret nvmlDeviceGetArchitecture(void *h, unsigned *out) { ENTER(h); *out = (unsigned)get(whole(device), "arch"); return OK; }
typedef struct { u64 total, free, used; } Memory1;
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory2;
static u64 free_of(Device *d) { long long rest = get(d, "total") - get(d, "reserved") - get(d, "used"); return rest < 0 ? 0 : (u64)rest; }
Ret nvmlDeviceGetMemoryInfo(void *h, Memory1 *out) {
  ENTER(h); *out = (Memory1){(u64)get(device, "total"), free_of(device), (u64)(get(device, "used") + get(device, "reserved"))}; return OK;
}
#ifndef OLD_DRIVER
Ret nvmlDeviceGetMemoryInfo_v2(void *h, Memory2 *out) {
  ENTER(h); *out = (Memory2){out->version, (u64)get(device, "total"), (u64)get(device, "reserved"), free_of(device), (u64)get(device, "used")}; return OK;
}
#endif
Ret nvmlDeviceGetMigMode(void *h, unsigned *current, unsigned *pending) {
  ENTER(h); if (get(device, "arch") == 8 && !get(device, "nvlinks")) return NOT_SUPPORTED;
  *current = *pending = (unsigned)get(device, "mig"); return OK;
}
Ret nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *out) { ENTER(h); *out = 7; return OK; }
Ret nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned slot, void **out) {
  ENTER(h);
  for (int i = 0; i < device_count; i++)
    if (devices[i].parent == (long)h - 1 && devices[i].slot == (int)slot) { *out = (void *)(long)(i + 1); return OK; }
  return NOT_FOUND;
}
Ret nvmlDeviceGetGpuInstanceId(void *h, unsigned *out) { ENTER(h); *out = (unsigned)get(device, "gi"); return OK; }
Ret nvmlDeviceGetComputeInstanceId(void *h, unsigned *out) { ENTER(h); *out = 0; return OK; }
#ifndef OLD_DRIVER
typedef struct { unsigned version, id, p2p, slices, most, sms, copy, decoders, encoders, jpeg, ofa; u64 memory_mb; char name[96]; } ProfileInfo;
Ret nvmlDeviceGetGpuInstanceProfileInfoV(void *h, unsigned number, ProfileInfo *out) {
  ENTER(h);
  for (int i = 0; i < device->offer_count; i++) {
    Offer *offer = &device->offers[i];
    if (offer->number != number) continue;
    out->slices = offer->slices; out->most = offer->most; out->sms = offer->sms; out->memory_mb = offer->memory_mb;
    strcpy(out->name, offer->name);
    return OK;
  }
  return NOT_SUPPORTED;
}
#endif
typedef struct { unsigned sms, copy, decoders, encoders, jpeg, ofa, slices, compute_slices; u64 memory_mb; } Attributes;
Ret nvmlDeviceGetAttributes_v2(void *h, Attributes *out) {
  ENTER(h); if (device->parent < 0) return INVALID;
  memset(out, 0, sizeof *out);
  out->sms = (unsigned)get(device, "sms"); out->slices = out->compute_slices = (unsigned)get(device, "slices");
  out->memory_mb = (u64)get(device, "total") >> 20; return OK;
}
Ret nvmlDeviceGetNvLinkState(void *h, unsigned link, unsigned *out) {
  ENTER(h); if (link >= get(device, "nvlinks")) return get(device, "nvlinks") ? INVALID : NOT_SUPPORTED;
  *out = 1; return OK;
}
Ret nvmlDeviceGetP2PStatus(void *h, void *other, unsigned index, unsigned *out) { 
  ENTER(h); (void)index; if ((long)other < 1 || (long)other > device_count) return INVALID;
  Device *peer = &devices[(long)other - 1];
  *out = get(device, "nvlinks") && get(peer, "nvlinks") && get(device, "bridge") == get(peer, "bridge") ? 0 : 5;
  return OK;
}
Ret nvmlDeviceGetTopologyCommonAncestor(void *h, void *other, unsigned *out) { ENTER(h); (void)other; *out = 30; return OK; }

typedef struct { unsigned gpu, memory; } Rates;
Ret nvmlDeviceGetUtilizationRates(void *h, Rates *out) {
  ENTER(h); if (device->parent >= 0 || get(device, "mig")) return NOT_SUPPORTED;
  *out = (Rates){(unsigned)get(device, "util"), (unsigned)get(device, "memutil")}; return OK;
}
Ret nvmlDeviceGetPowerUsage(void *h, unsigned *out) { ENTER(h); *out = (unsigned)get(device, "power"); return OK; }
Ret nvmlDeviceGetEnforcedPowerLimit(void *h, unsigned *out) { ENTER(h); *out = (unsigned)get(device, "limit"); return OK; }
Ret nvmlDeviceGetTemperature(void *h, int sensor, unsigned *out) { ENTER(h); (void)sensor; *out = (unsigned)get(device, "temp"); return OK; }
Ret nvmlDeviceGetClockInfo(void *h, int kind, unsigned *out) { ENTER(h); *out = (unsigned)get(device, kind == 1 ? "smclock" : "memclock"); return OK; }
#ifndef OLD_DRIVER
Ret nvmlDeviceGetCurrentClocksEventReasons(void *h, u64 *out) { ENTER(h); *out = (u64)get(device, "throttle"); return OK; }
#endif
Ret nvmlDeviceGetPcieThroughput(void *h, int counter, unsigned *out) { ENTER(h); (void)counter; *out = 2048; return OK; }
typedef struct { unsigned id, scope; long long timestamp, latency; unsigned type; Ret code; long long value; } FieldValue;
Ret nvmlDeviceGetFieldValues(void *h, int count, FieldValue *out) {
  ENTER(h);
  for (int i = 0; i < count; i++) {
    out[i].code = NOT_SUPPORTED;
    for (int k = 0; k < device->field_count; k++)
      if (device->fields[k].id == out[i].id) { out[i].code = device->fields[k].code; out[i].type = device->fields[k].type; out[i].value = device->fields[k].value; }
  }
  return OK;
}
typedef struct { unsigned pid; u64 memory; unsigned gi, ci; } ProcessInfo;
Ret nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *count, ProcessInfo *out) {
  ENTER(h); unsigned room = *count; *count = (unsigned)device->process_count;
  if (room < *count) return TOO_SMALL;
  for (unsigned i = 0; i < *count; i++) out[i] = (ProcessInfo){device->processes[i].pid, (u64)device->processes[i].memory, ~0u, ~0u};
  return OK;
}
Ret nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *count, ProcessInfo *out) { ENTER(h); (void)out; *count = 0; return OK; }
typedef struct { unsigned pid; u64 at; unsigned sm, memory, encoder, decoder; } ProcessLoad;
Ret nvmlDeviceGetProcessUtilization(void *h, ProcessLoad *out, unsigned *count, u64 since) {
  ENTER(h); (void)since; unsigned busy = 0;
  for (int i = 0; i < device->process_count; i++) if (device->processes[i].sm) {
    if (out && busy < *count) out[busy] = (ProcessLoad){device->processes[i].pid, 0, device->processes[i].sm, 0, 0, 0};
    busy++;
  }
  if (!busy) return NOT_FOUND;
  *count = busy; return out ? OK : TOO_SMALL;
}

typedef struct { unsigned version, supported; } GpmSupport;
typedef struct { Device *source; } GpmSample;
typedef struct { unsigned id; Ret code; double value; const char *names[3]; } GpmMetric;
typedef struct { unsigned version, count; GpmSample *first, *second; GpmMetric metrics[]; } GpmRequest;
Ret nvmlGpmQueryDeviceSupport(void *h, GpmSupport *out) { ENTER(h); out->supported = (unsigned)get(whole(device), "gpm"); return OK; }
Ret nvmlGpmSampleAlloc(GpmSample **out) { *out = calloc(1, sizeof **out); return OK; }
Ret nvmlGpmSampleFree(GpmSample *sample) { free(sample); return OK; }
Ret nvmlGpmSampleGet(void *h, GpmSample *out) { ENTER(h); out->source = device; return OK; }
Ret nvmlGpmMigSampleGet(void *h, unsigned instance, GpmSample *out) {
  ENTER(h);
  for (int i = 0; i < device_count; i++)
    if (devices[i].parent == (long)h - 1 && get(&devices[i], "gi") == instance) { out->source = &devices[i]; return OK; }
  return INVALID;
}
Ret nvmlGpmMetricsGet(GpmRequest *request) {
  Device *source = request->second->source;
  for (unsigned i = 0; i < request->count; i++) {
    GpmMetric *metric = &request->metrics[i]; metric->code = OK;
    switch (metric->id) {
      case 1: case 2: metric->value = get(source, "sm") / 1000.0; break;
      case 5: metric->value = get(source, "tensor") / 1000.0; break;
      case 10: metric->value = get(source, "dram") / 1000.0; break;
      case 20: metric->value = 2; break;
      case 21: metric->value = 4; break;
      default: metric->code = NOT_SUPPORTED;
    }
    if (source->parent >= 0 && (metric->id == 5 || metric->id == 10)) metric->code = NOT_SUPPORTED;
  }
  return OK;
}

typedef struct { void *device; u64 type, data; unsigned gi, ci; } EventData;
Ret nvmlEventSetCreate(void **out) { *out = (void *)1; return OK; }
Ret nvmlEventSetFree(void *set) { (void)set; return OK; }
Ret nvmlDeviceGetSupportedEventTypes(void *h, u64 *out) { ENTER(h); *out = 0x8 | 0x2 | 0x100; return OK; }
Ret nvmlDeviceRegisterEvents(void *h, u64 mask, void *set) { ENTER(h); (void)mask; (void)set; return OK; }
Ret nvmlEventSetWait_v2(void *set, EventData *out, unsigned wait_ms) {
  refresh(); (void)set; (void)wait_ms;
  if (events_delivered >= event_count) return TIMED_OUT;
  Event *event = &events[events_delivered++];
  for (int i = 0; i < device_count; i++) if (devices[i].parent < 0 && devices[i].order == event->gpu) out->device = (void *)(long)(i + 1);
  out->type = event->type; out->data = event->data; out->gi = event->instance; out->ci = ~0u;
  return OK;
}
