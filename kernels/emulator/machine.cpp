// The program of the image: says what the processor is able to do, compares each table that it can run with the scalar
// one, and the table that ALSO names whatever the processor says of itself. Then it turns the machine off. It speaks
// through the first serial port.
#include "../dispatch.h"
#include "compare.h"

namespace {

constexpr uint16_t kSerial = 0x3f8;
constexpr uint16_t kPower = 0x8900;  // Bochs: the machine is turned off by writing "Shutdown"

void write_port(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

uint8_t read_port(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

void start_serial() {
  write_port(kSerial + 1, 0);     // no interrupts
  write_port(kSerial + 3, 0x80);  // the next two set the speed
  write_port(kSerial + 0, 1);
  write_port(kSerial + 1, 0);
  write_port(kSerial + 3, 3);     // 8 bits, no parity, one stop bit
  write_port(kSerial + 2, 0xc7);  // with buffer
}

void wait_for_serial(uint8_t state) {
  while (!(read_port(kSerial + 5) & state)) {
  }
}

void print(const char* text) {
  for (; *text; ++text) {
    wait_for_serial(0x20);  // room for a byte
    write_port(kSerial, static_cast<uint8_t>(*text));
  }
}

}  // namespace

extern "C" {

// Compilers call these even where there is no library.
void* memcpy(void* to, const void* from, uint64_t bytes) {
  void* const start = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
  return start;
}

void* memset(void* to, int value, uint64_t bytes) {
  void* const start = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
  return start;
}

int strcmp(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return static_cast<uint8_t>(*a) - static_cast<uint8_t>(*b);
}

void run() {
  start_serial();
  print("usable:");
  for (int level = 0; level < aifw::kLevels; ++level)
    if (aifw::level_usable(level)) {
      print(" ");
      print(aifw::level_name(level));
    }
  print("\nselected: ");
  print(aifw::active().name);
  print("\n");
  for (int level = 1; level < aifw::kLevels; ++level)
    if (aifw::select(aifw::level_name(level))) aifw::compare(aifw::active(), SEED, ROUNDS, print);
#ifdef ALSO
  aifw::compare(aifw::ALSO, SEED, ROUNDS, print);
#endif
  print("complete\n");
  wait_for_serial(0x40);  // all sent
  for (const char* letter = "Shutdown"; *letter; ++letter) write_port(kPower, static_cast<uint8_t>(*letter));
}

}
