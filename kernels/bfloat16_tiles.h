// AMX's tiles: sums of 16 x 16 numbers in float32, to which products of pairs of bfloat16 are added.
#ifndef KERNELS_BFLOAT16_TILES_H_
#define KERNELS_BFLOAT16_TILES_H_

#include "bfloat16.h"

#if defined(__AVX512BF16__) && defined(__AMX_BF16__)
#define KERNELS_HAVE_TILES

#include <sys/syscall.h>
#include <unistd.h>

namespace kernels {
namespace narrow {

constexpr int64_t kTile = 16;   // rows and columns of sums
constexpr int64_t kDepth = 32;  // products that are added to each of them at a time
constexpr int64_t kPanel = kDepth * kTile;
constexpr int64_t kSums = kTile * kTile;

// Whether Linux lets this process use the tiles; it is asked only once.
inline bool has_tiles() {
  constexpr int kRequest = 0x1023, kTileData = 18;  // arch_prctl's ARCH_REQ_XCOMP_PERM
  static const bool has = syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  return has;
}

// The tiles of a thread, for as long as it lives: 0 to 3 are sums, 4 and 5 rows, 6 and 7 columns.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, none[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } set;
    for (int tile = 0; tile < 8; ++tile) {
      set.bytes[tile] = 64;
      set.rows[tile] = kTile;
    }
    asm volatile("" : : "r"(&set) : "memory");  // GCC takes the instruction to read eight bytes
    _tile_loadconfig(&set);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
};

// Sums are of `high` by `across` tiles: two by two at most, or four of either. Tile (y, x) is number y across + x.
template <int high, int across>
inline void clear() {
  constexpr int count = high * across;
  _tile_zero(0);
  if (count > 1) _tile_zero(1);
  if (count > 2) _tile_zero(2);
  if (count > 3) _tile_zero(3);
}

// Their tiles lie `down` and `beside` numbers apart, and rows of a tile so many bytes.
template <int high, int across>
inline void load_tiles(const float* from, int64_t down, int64_t beside, size_t bytes = 64) {
  const auto at = [&](int tile) { return from + tile / across * down + tile % across * beside; };
  constexpr int count = high * across;
  _tile_loadd(0, at(0), bytes);
  if (count > 1) _tile_loadd(1, at(1), bytes);
  if (count > 2) _tile_loadd(2, at(2), bytes);
  if (count > 3) _tile_loadd(3, at(3), bytes);
}

template <int high, int across>
inline void store_tiles(float* to, int64_t down, int64_t beside, size_t bytes = 64) {
  const auto at = [&](int tile) { return to + tile / across * down + tile % across * beside; };
  constexpr int count = high * across;
  _tile_stored(0, at(0), bytes);
  if (count > 1) _tile_stored(1, at(1), bytes);
  if (count > 2) _tile_stored(2, at(2), bytes);
  if (count > 3) _tile_stored(3, at(3), bytes);
}

// Keeps the tile unit awake while other work is done between sums: after 0.2 us without a product, the next one is late by
// more than that. The product goes into tile 0, so call this only when no sums are in the tiles.
inline void stay_awake() { _tile_dpbf16ps(0, 4, 6); }

// Where pieces of rows and columns lie.
struct Pieces {
  const Bits *rows[4], *columns[4];
};

// Adds products to the sums; `next(k, &at)` sets where the k-th pieces lie.
template <int high, int across, class Next>
inline __attribute__((always_inline)) void multiply(int64_t count, size_t row_bytes, size_t column_bytes, Next next) {
  Pieces at;
  for (int64_t k = 0; k < count; ++k) {
    next(k, &at);
    _tile_loadd(6, at.columns[0], column_bytes);
    _tile_loadd(4, at.rows[0], row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if (across > 1) _tile_loadd(7, at.columns[1], column_bytes);
    if (across > 1) _tile_dpbf16ps(1, 4, 7);
    if (across > 2) _tile_loadd(6, at.columns[2], column_bytes);
    if (across > 2) _tile_dpbf16ps(2, 4, 6);
    if (across > 3) _tile_loadd(7, at.columns[3], column_bytes);
    if (across > 3) _tile_dpbf16ps(3, 4, 7);
    if (high > 1) _tile_loadd(5, at.rows[1], row_bytes);
    if (high > 1 && across == 1) _tile_dpbf16ps(1, 5, 6);
    if (high > 1 && across == 2) _tile_dpbf16ps(2, 5, 6);
    if (high > 1 && across == 2) _tile_dpbf16ps(3, 5, 7);
    if (high > 2) _tile_loadd(4, at.rows[2], row_bytes);
    if (high > 2) _tile_dpbf16ps(2, 4, 6);
    if (high > 3) _tile_loadd(5, at.rows[3], row_bytes);
    if (high > 3) _tile_dpbf16ps(3, 5, 6);
  }
}

// Calls `body` with the numbers of tiles, which the compiler then knows.
template <class Body>
inline void with_tiles(bool two_high, bool two_across, Body body) {
  typedef std::integral_constant<int, 1> One;
  typedef std::integral_constant<int, 2> Two;
  if (two_high && two_across) body(Two(), Two());
  else if (two_high) body(Two(), One());
  else if (two_across) body(One(), Two());
  else body(One(), One());
}

}  // namespace narrow
}  // namespace kernels

#endif

#endif  // KERNELS_BFLOAT16_TILES_H_
