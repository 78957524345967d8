// The comparison as an ordinary program: process SEED ROUNDS. TESTED names the table, by -DTESTED=kAvx512 and the like.
#include <cstdio>
#include <cstdlib>

#include "compare.h"

int main(int, char** arguments) {
  const auto print = [](const char* text) { std::fputs(text, stdout); };
  const auto seed = static_cast<uint32_t>(std::strtoul(arguments[1], nullptr, 10));
  return aifw::compare(aifw::TESTED, seed, std::atoi(arguments[2]), print) != 0;
}
