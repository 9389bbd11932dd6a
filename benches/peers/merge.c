// A plain loop for comparison with merges of bf16 checkpoints: mapped files, f32 sums, two threads,
// output through a mapping, no flush, no checks. All files must have the same header.
//
// cc -O3 -march=native -pthread merge.c -o merge && ./merge OUT.safetensors IN.safetensors...
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 64, BLOCK = 8192, THREADS = 2 };
static int count;
static const uint16_t* in[FILES];
static uint16_t* out;
static size_t n;

static float widen(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float x;
  memcpy(&x, &wide, 4);
  return x;
}

static uint16_t narrow(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

static void* work(void* thread) {
  const size_t t = (size_t)thread, end = n * (t + 1) / THREADS;
  const float weight = 1.0f / count;
  float sum[BLOCK];
  for (size_t i = n * t / THREADS; i < end; i += BLOCK) {
    const size_t m = end - i < BLOCK ? end - i : BLOCK;
    for (size_t j = 0; j < m; j++) sum[j] = weight * widen(in[0][i + j]);
    for (int k = 1; k < count; k++)
      for (size_t j = 0; j < m; j++) sum[j] += weight * widen(in[k][i + j]);
    for (size_t j = 0; j < m; j++) out[i + j] = narrow(sum[j]);
  }
  return NULL;
}

static char* map(const char* path, int flags, size_t* length) {
  const int file = open(path, flags, 0644);
  struct stat state;
  if (file < 0) return perror(path), NULL;
  if (flags & O_CREAT && ftruncate(file, *length)) return perror(path), NULL;
  if (fstat(file, &state)) return perror(path), NULL;
  *length = state.st_size;
  char* bytes = mmap(NULL, *length, PROT_READ | (flags & O_CREAT ? PROT_WRITE : 0), MAP_SHARED, file, 0);
  return bytes == MAP_FAILED ? perror(path), NULL : bytes;
}

int main(int argc, char** argv) {
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  count = argc - 2;
  if (count < 1 || count > FILES) return fprintf(stderr, "merge OUT IN...\n"), 2;
  size_t length = 0, header = 0;
  for (int k = 0; k < count; k++) {
    char* bytes = map(argv[2 + k], O_RDONLY, &length);
    if (!bytes) return 1;
    uint64_t json;
    memcpy(&json, bytes, 8);
    header = 8 + json;
    in[k] = (const uint16_t*)(bytes + header);
  }
  n = (length - header) / 2;
  char* bytes = map(argv[1], O_RDWR | O_CREAT | O_TRUNC, &length);
  if (!bytes) return 1;
  memcpy(bytes, (const char*)in[0] - header, header);
  out = (uint16_t*)(bytes + header);
  pthread_t threads[THREADS];
  for (size_t t = 0; t < THREADS; t++) pthread_create(&threads[t], NULL, work, (void*)t);
  for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%.3f\n", end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) * 1e-9);
  return 0;
}
