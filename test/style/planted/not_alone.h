// A header that leans on what its includer has included before it.
#pragma once

namespace pagewire::planted {

std::size_t leans();

}  // namespace pagewire::planted
