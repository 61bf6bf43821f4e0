// Rows to columns and back, at every level, for widths and numbers of rows around a vector's.
#include "ood/kernels/transpose.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels/levels.h"

namespace ood::kernels {
namespace {

template <class T>
class Transpose : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Transpose, Types);

TYPED_TEST(Transpose, MovesEveryNumberAndNothingElse) {
  using T = TypeParam;
  test::at_every_level([](const std::string& level) {
    for (const int classes : test::kWidths)
      for (const int rows : {0, 1, 3, 4, 7, 8, 9, 16, 17, 40}) {
        const int row_stride = classes + 2, column_stride = rows + 3;
        std::vector<T> from(rows * row_stride), columns(classes * column_stride, -1);
        for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<T>(i);
        rows_to_columns(from.data(), rows, classes, row_stride, columns.data(), column_stride);
        for (int c = 0; c < classes; ++c)
          for (int i = 0; i < column_stride; ++i)
            ASSERT_EQ(columns[c * column_stride + i], i < rows ? from[i * row_stride + c] : -1)
                << level << " " << rows << "x" << classes;
        std::vector<T> back(from.size(), -1);
        columns_to_rows(columns.data(), rows, classes, column_stride, back.data(), row_stride);
        for (int i = 0; i < rows; ++i)
          for (int c = 0; c < row_stride; ++c)
            ASSERT_EQ(back[i * row_stride + c], c < classes ? from[i * row_stride + c] : -1)
                << level << " " << rows << "x" << classes;
      }
  });
}

}  // namespace
}  // namespace ood::kernels
