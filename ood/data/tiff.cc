#include "ood/data/picture_decoder.h"
#ifdef OOD_TIFF
#include <tiffio.h>

#include <cstdio>
#include <cstring>
#endif
#include "ood/data/exif.h"
#include "ood/errors.h"

namespace ood::decoders {

#ifdef OOD_TIFF

namespace {

// A file in memory as libtiff reads it.
struct Memory {
  const std::vector<unsigned char>& bytes;
  std::uint64_t at = 0;
  std::string error{};
};

Memory& of(thandle_t handle) { return *static_cast<Memory*>(handle); }

tmsize_t read(thandle_t handle, void* to, tmsize_t size) {
  Memory& m = of(handle);
  const std::uint64_t left = m.bytes.size() - std::min<std::uint64_t>(m.at, m.bytes.size());
  const auto n = std::min<std::uint64_t>(static_cast<std::uint64_t>(size), left);
  if (n > 0) std::memcpy(to, m.bytes.data() + m.at, n);
  m.at += n;
  return static_cast<tmsize_t>(n);
}

tmsize_t write(thandle_t, void*, tmsize_t) { return -1; }

toff_t seek(thandle_t handle, toff_t to, int from) {
  Memory& m = of(handle);
  m.at = from == SEEK_SET ? to : from == SEEK_CUR ? m.at + to : m.bytes.size() + to;
  return m.at;
}

int close(thandle_t) { return 0; }

toff_t size(thandle_t handle) { return of(handle).bytes.size(); }

int failed(TIFF*, void* memory, const char*, const char* format, va_list arguments) {
  char text[kWhy];
  std::vsnprintf(text, sizeof text, format, arguments);
  static_cast<Memory*>(memory)->error = text;
  return 1;
}

int silent(TIFF*, void*, const char*, const char*, va_list) { return 1; }

TIFF* open(Memory& memory, std::int64_t max_pixels) {
  TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
  TIFFOpenOptionsSetErrorHandlerExtR(options, failed, &memory);
  TIFFOpenOptionsSetWarningHandlerExtR(options, silent, nullptr);
  // Four channels of 16 bits, and what tags and tiles need beside them.
  constexpr std::int64_t kBytes = 8, kBeside = 1 << 24;
  TIFFOpenOptionsSetMaxSingleMemAlloc(options, kBytes * max_pixels + kBeside);
  TIFF* tiff = TIFFClientOpenExt("", "rm", &memory, read, write, seek, close, size, nullptr,
                                 nullptr, options);
  TIFFOpenOptionsFree(options);
  return tiff;
}

}  // namespace

bool has_tiff() { return true; }

at::Tensor tiff(const Encoded& file) {
  Memory memory{file.bytes};
  struct Closed {
    TIFF* tiff;
    ~Closed() {
      if (tiff != nullptr) TIFFClose(tiff);
    }
  } const opened{open(memory, file.how.max_pixels)};
  TIFF* t = opened.tiff;
  const auto refuse = [&](const std::string& otherwise) {
    fail(file, "TIFF", memory.error.empty() ? otherwise : memory.error);
  };
  if (t == nullptr) refuse("truncated or damaged");
  std::uint32_t width = 0, height = 0;
  TIFFGetField(t, TIFFTAG_IMAGEWIDTH, &width);
  TIFFGetField(t, TIFFTAG_IMAGELENGTH, &height);
  char why[kWhy];
  if (!fits(height, width, file.how.max_pixels, why))
    throw DataError(file.path.string() + ": " + why);
  std::uint16_t bits = 1, samples = 1, kind = PHOTOMETRIC_MINISBLACK, orientation = 1, format = 1;
  TIFFGetFieldDefaulted(t, TIFFTAG_BITSPERSAMPLE, &bits);
  TIFFGetFieldDefaulted(t, TIFFTAG_SAMPLESPERPIXEL, &samples);
  TIFFGetFieldDefaulted(t, TIFFTAG_SAMPLEFORMAT, &format);
  TIFFGetFieldDefaulted(t, TIFFTAG_ORIENTATION, &orientation);
  TIFFGetField(t, TIFFTAG_PHOTOMETRIC, &kind);
  if (bits > 16 || format != SAMPLEFORMAT_UINT)
    fail(file, "TIFF",
         "expected whole numbers of at most 16 bits, got " + std::to_string(bits) + " bits" +
             (format == SAMPLEFORMAT_IEEEFP ? " of floating point" : ""));
  if (kind == PHOTOMETRIC_SEPARATED) fail(file, "TIFF", "a CMYK picture, expected grey or RGB");
  // The reader would turn it half of the way.
  TIFFSetField(t, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
  std::vector<std::uint32_t> raster(static_cast<std::size_t>(width) * height);
  if (TIFFReadRGBAImageOriented(t, width, height, raster.data(), ORIENTATION_TOPLEFT,
                                /*stopOnError=*/1) == 0)
    refuse("truncated or damaged");
  std::vector<unsigned char> rgba(raster.size() * 4);
  for (std::size_t i = 0; i < raster.size(); ++i) {
    rgba[4 * i] = TIFFGetR(raster[i]);
    rgba[4 * i + 1] = TIFFGetG(raster[i]);
    rgba[4 * i + 2] = TIFFGetB(raster[i]);
    rgba[4 * i + 3] = TIFFGetA(raster[i]);
  }
  auto picture =
      over_rows(before_colour(rgba, file.how.behind, /*multiplied=*/true), height, width, 3);
  const bool grey =
      samples == 1 && (kind == PHOTOMETRIC_MINISBLACK || kind == PHOTOMETRIC_MINISWHITE);
  if (grey) picture = picture.slice(0, 0, 1).contiguous();
  return upright(picture, orientation >= 1 && orientation <= 8 ? orientation : 1);
}

#else

bool has_tiff() { return false; }

at::Tensor tiff(const Encoded& file) {
  fail(file, "TIFF", "the program was built without libtiff (libtiff-dev)");
}

#endif

}  // namespace ood::decoders
