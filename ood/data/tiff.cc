#include "ood/data/picture_decoder.h"
#ifdef OOD_TIFF
#include <tiffio.h>

#include <bit>
#include <cstdio>
#include <cstring>
#endif
#include "ood/data/exif.h"

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

// What JPEG calls a warning is damage; the rest is of no interest.
int warned(TIFF* tiff, void* memory, const char* module, const char* format, va_list arguments) {
  if (module == nullptr || std::strcmp(module, "JPEGLib") != 0) return 1;
  return failed(tiff, memory, module, format, arguments);
}

TIFF* open(Memory& memory, std::int64_t max_pixels) {
  TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
  TIFFOpenOptionsSetErrorHandlerExtR(options, failed, &memory);
  TIFFOpenOptionsSetWarningHandlerExtR(options, warned, &memory);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options, most_bytes(max_pixels));
  TIFF* tiff = TIFFClientOpenExt("", "rm", &memory, read, write, seek, close, size, nullptr,
                                 nullptr, options);
  TIFFOpenOptionsFree(options);
  return tiff;
}

// By the further samples: those that are not said to be alpha are none. Of grey libtiff gives the
// numbers of the file, of colours always multiplied ones; of others none.
Alpha alpha_of(TIFF* tiff, const Encoded& file, std::uint16_t kind, std::uint16_t bits) {
  std::uint16_t further = 0;
  std::uint16_t* kinds = nullptr;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &further, &kinds);
  if (further == 0 || kinds[0] == EXTRASAMPLE_UNSPECIFIED) return Alpha::kNone;
  const bool grey = kind == PHOTOMETRIC_MINISBLACK || kind == PHOTOMETRIC_MINISWHITE;
  if (kind == PHOTOMETRIC_PALETTE || (grey && bits != 8))
    fail(file, "TIFF", "transparency of a palette, or of grey that is not of 8 bits, is not read");
  return grey && kinds[0] == EXTRASAMPLE_UNASSALPHA ? Alpha::kApart : Alpha::kMultiplied;
}

}  // namespace

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
  if (width == 0 || height == 0) refuse("it does not say how large it is");
  check_size(file, height, width);
  // A small picture may be cut from a tile of any size.
  const auto part = TIFFIsTiled(t) != 0 ? TIFFTileSize64(t) : TIFFStripSize64(t);
  if (part > static_cast<std::uint64_t>(most_bytes(std::int64_t{width} * height)))
    refuse("its parts are larger than the picture");
  std::uint16_t bits = 1, kind = PHOTOMETRIC_MINISBLACK, orientation = 1, format = 1;
  TIFFGetFieldDefaulted(t, TIFFTAG_BITSPERSAMPLE, &bits);
  TIFFGetFieldDefaulted(t, TIFFTAG_SAMPLEFORMAT, &format);
  TIFFGetFieldDefaulted(t, TIFFTAG_ORIENTATION, &orientation);
  TIFFGetField(t, TIFFTAG_PHOTOMETRIC, &kind);
  if (bits > 16 || format != SAMPLEFORMAT_UINT)
    fail(file, "TIFF",
         "expected whole numbers of at most 16 bits, got " + std::to_string(bits) + " bits" +
             (format == SAMPLEFORMAT_IEEEFP ? " of floating point"
              : format == SAMPLEFORMAT_INT  ? " with a sign"
                                            : ""));
  if (kind == PHOTOMETRIC_SEPARATED) fail(file, "TIFF", "a CMYK picture, expected grey or RGB");
  const Alpha alpha = alpha_of(t, file, kind, bits);
  // The reader would turn it half of the way.
  TIFFSetField(t, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
  std::vector<std::uint32_t> raster(static_cast<std::size_t>(width) * height);
  if (TIFFReadRGBAImageOriented(t, width, height, raster.data(), ORIENTATION_TOPLEFT,
                                /*stopOnError=*/1) == 0 ||
      !memory.error.empty())
    refuse("truncated or damaged");
  static_assert(std::endian::native == std::endian::little);  // red is the first byte of a number
  const auto colour = file.how.behind.value_or(0);
  auto picture = over_rows(before_colour(reinterpret_cast<const unsigned char*>(raster.data()),
                                         raster.size(), colour, alpha),
                           height, width, 3);
  const bool grey = kind == PHOTOMETRIC_MINISBLACK || kind == PHOTOMETRIC_MINISWHITE;
  if (grey && (alpha == Alpha::kNone || is_grey(colour)))
    picture = picture.slice(0, 0, 1).contiguous();
  return upright(picture, orientation);
}

#else

at::Tensor tiff(const Encoded& file) {
  fail(file, "TIFF", "the program was built without libtiff (libtiff-dev)");
}

#endif

}  // namespace ood::decoders
