/* A libcuda.so.1 whose device memory is host memory: what the overwriting program calls, and no more.
 * $FAKE_CUDA: UUID of the one device in hex, MiB free, MiB that one allocation may have at most, 1 if memory is stuck. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long u64;
static unsigned char uuid[16];
static u64 free_bytes, largest;
static int stuck;

int cuInit(unsigned flags) {
  const char *state = getenv("FAKE_CUDA");
  char hex[40]; u64 free_mib, largest_mib;
  (void)flags;
  if (!state || sscanf(state, "%39s %llu %llu %d", hex, &free_mib, &largest_mib, &stuck) != 4) return 100;
  for (int i = 0; i < 16; i++) { unsigned byte; sscanf(hex + 2 * i, "%2x", &byte); uuid[i] = (unsigned char)byte; }
  free_bytes = free_mib << 20; largest = largest_mib << 20;
  return 0;
}
int cuDeviceGetCount(int *out) { *out = 1; return 0; }
int cuDeviceGet(int *out, int ordinal) { *out = ordinal; return 0; }
int cuDeviceGetUuid_v2(unsigned char *out, int device) { (void)device; memcpy(out, uuid, 16); return 0; }
int cuDevicePrimaryCtxRetain(void **out, int device) { (void)device; *out = (void *)1; return 0; }
int cuCtxSetCurrent(void *context) { (void)context; return 0; }
int cuCtxSynchronize(void) { return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = free_bytes; *total = free_bytes; return 0; }
int cuMemAlloc_v2(u64 *out, size_t size) {
  if (size > largest || size > free_bytes) return 2;
  *out = (u64)malloc(size);
  free_bytes -= size;
  return *out ? 0 : 2;
}
int cuMemsetD32_v2(u64 address, unsigned word, size_t count) {
  unsigned *at = (unsigned *)address;
  for (size_t i = 0; i < count; i++) at[i] = word;
  if (stuck && word == 0) at[count - 1] = 0xdead;
  return 0;
}
int cuMemcpyDtoH_v2(void *out, u64 address, size_t size) { memcpy(out, (void *)address, size); return 0; }
