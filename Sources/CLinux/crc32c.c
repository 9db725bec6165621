// CRC32C: SSE4.2 instruction in three interleaved streams, table elsewhere.
// Combining three streams follows M. Adler's published method (shift by zeros as a GF(2) matrix).
#include "clinux.h"
#include <string.h>

#define POLY 0x82f63b78u

static uint32_t table[8][256];

static void init_tables(void) __attribute__((constructor));

static uint32_t by_table(uint32_t crc, const uint8_t *p, size_t n) {
    while (n && ((uintptr_t)p & 7)) {
        crc = table[0][(crc ^ *p++) & 255] ^ (crc >> 8);
        n--;
    }
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        w ^= crc;
        crc = table[7][w & 255] ^ table[6][(w >> 8) & 255] ^ table[5][(w >> 16) & 255]
            ^ table[4][(w >> 24) & 255] ^ table[3][(w >> 32) & 255] ^ table[2][(w >> 40) & 255]
            ^ table[1][(w >> 48) & 255] ^ table[0][w >> 56];
        p += 8;
        n -= 8;
    }
    while (n--) crc = table[0][(crc ^ *p++) & 255] ^ (crc >> 8);
    return crc;
}

uint32_t clinux_crc32c_portable(uint32_t crc, const void *bytes, size_t count) {
    return ~by_table(~crc, bytes, count);
}

#if defined(__x86_64__)
#include <nmmintrin.h>

// Streams of LONG and SHORT bytes; a 4 KiB sector group is one round of 3 x 1360 plus 16 bytes.
#define LONG 1360
#define SHORT 160
static uint32_t shift_long[4][256], shift_short[4][256];
static int has_sse42;

static uint32_t gf2_times(const uint32_t *mat, uint32_t vec) {
    uint32_t sum = 0;
    while (vec) {
        if (vec & 1) sum ^= *mat;
        vec >>= 1;
        mat++;
    }
    return sum;
}

// Operator that appends `len` zero bytes, by repeated squaring; `len` need not be a power of two.
static void zeros_operator(uint32_t shift[4][256], size_t len) {
    uint32_t result[32], power[32], scratch[32];
    for (int i = 0; i < 32; i++) result[i] = 1u << i;
    power[0] = POLY;  // one zero bit
    for (int i = 1; i < 32; i++) power[i] = 1u << (i - 1);
    for (int i = 0; i < 3; i++) {  // eight zero bits
        for (int j = 0; j < 32; j++) scratch[j] = gf2_times(power, power[j]);
        memcpy(power, scratch, sizeof power);
    }
    for (; len; len >>= 1) {
        if (len & 1) {
            for (int j = 0; j < 32; j++) scratch[j] = gf2_times(power, result[j]);
            memcpy(result, scratch, sizeof result);
        }
        for (int j = 0; j < 32; j++) scratch[j] = gf2_times(power, power[j]);
        memcpy(power, scratch, sizeof power);
    }
    for (int n = 0; n < 256; n++)
        for (int k = 0; k < 4; k++) shift[k][n] = gf2_times(result, (uint32_t)n << (8 * k));
}

static inline uint64_t shifted(uint32_t shift[4][256], uint64_t crc) {
    return shift[0][crc & 255] ^ shift[1][(crc >> 8) & 255] ^ shift[2][(crc >> 16) & 255]
        ^ shift[3][(crc >> 24) & 255];
}

static inline uint64_t load(const uint8_t *p) {
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

// `out` is NULL, or where the bytes are copied while they are in registers.
__attribute__((target("sse4.2"), always_inline)) static inline uint32_t by_instruction(
    uint32_t crc, const uint8_t *p, size_t n, uint8_t *out) {
    uint64_t c0 = crc;
#define ROUND(LEN, SHIFT)                                                                          \
    while (n >= 3 * LEN) {                                                                         \
        uint64_t c1 = 0, c2 = 0;                                                                   \
        const uint8_t *end = p + LEN;                                                              \
        do {                                                                                       \
            uint64_t a = load(p), b = load(p + LEN), c = load(p + 2 * LEN);                        \
            c0 = _mm_crc32_u64(c0, a);                                                             \
            c1 = _mm_crc32_u64(c1, b);                                                             \
            c2 = _mm_crc32_u64(c2, c);                                                             \
            if (out) {                                                                             \
                memcpy(out, &a, 8);                                                                \
                memcpy(out + LEN, &b, 8);                                                          \
                memcpy(out + 2 * LEN, &c, 8);                                                      \
                out += 8;                                                                          \
            }                                                                                      \
            p += 8;                                                                                \
        } while (p < end);                                                                         \
        c0 = shifted(SHIFT, c0) ^ c1;                                                              \
        c0 = shifted(SHIFT, c0) ^ c2;                                                              \
        p += 2 * LEN;                                                                              \
        if (out) out += 2 * LEN;                                                                   \
        n -= 3 * LEN;                                                                              \
    }
    ROUND(LONG, shift_long)
    ROUND(SHORT, shift_short)
#undef ROUND
    while (n >= 8) {
        uint64_t a = load(p);
        c0 = _mm_crc32_u64(c0, a);
        if (out) {
            memcpy(out, &a, 8);
            out += 8;
        }
        p += 8;
        n -= 8;
    }
    uint32_t c = (uint32_t)c0;
    while (n--) {
        c = _mm_crc32_u8(c, *p);
        if (out) *out++ = *p;
        p++;
    }
    return c;
}

__attribute__((target("sse4.2"))) static uint32_t plain(uint32_t crc, const uint8_t *p, size_t n) {
    return by_instruction(crc, p, n, NULL);
}

__attribute__((target("sse4.2"))) static uint32_t copying(
    uint32_t crc, const uint8_t *p, size_t n, uint8_t *out) {
    return by_instruction(crc, p, n, out);
}
#endif

static void init_tables(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int k = 0; k < 8; k++) crc = crc & 1 ? (crc >> 1) ^ POLY : crc >> 1;
        table[0][n] = crc;
    }
    for (int n = 0; n < 256; n++)
        for (int k = 1; k < 8; k++)
            table[k][n] = table[0][table[k - 1][n] & 255] ^ (table[k - 1][n] >> 8);
#if defined(__x86_64__)
    has_sse42 = __builtin_cpu_supports("sse4.2");
    zeros_operator(shift_long, LONG);
    zeros_operator(shift_short, SHORT);
#endif
}

uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t count) {
#if defined(__x86_64__)
    if (has_sse42) return ~plain(~crc, bytes, count);
#endif
    return clinux_crc32c_portable(crc, bytes, count);
}

uint32_t clinux_crc32c_copy(uint32_t crc, void *target, const void *source, size_t count) {
#if defined(__x86_64__)
    if (has_sse42) return ~copying(~crc, source, count, target);
#endif
    memcpy(target, source, count);
    return clinux_crc32c_portable(crc, target, count);
}
