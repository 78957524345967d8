// From the processor's reset to 64-bit code with the vector registers on, in a ROM of our own: no BIOS, no operating
// system. The ROM's last 64 KB, which hold this file, also appear below one megabyte; the program before them is copied
// to where it was linked. Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3A, "Processor
// management and initialization", and volume 1, "Managing state using the XSAVE feature set".

#ifndef SAVED
#define SAVED 0xe7        // registers that programs may use: x87, SSE, AVX, masks, both halves of zmm
#endif

.equ TABLES, 0x10000      // page tables: three pages of memory that nothing else uses
.equ STACK, 0x90000       // top of the stack
.equ CODE32, 8            // selectors in the descriptor table below
.equ DATA, 16
.equ CODE64, 24

.section .reset, "ax"
.code16
  jmp real

.section .boot, "ax"
real:
  cli
  cld
  lgdtl %cs:(descriptor_table_register - real)
  movl %cr0, %eax
  orl $1, %eax                    // PE
  movl %eax, %cr0
  ljmpl $CODE32, $protected

.code32
protected:
  movw $DATA, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss

  movl $program_in_rom, %esi
  movl $program_start, %edi
  movl $program_bytes, %ecx
  rep movsb
  movl $zeroed_start, %edi
  movl $zeroed_bytes, %ecx
  xorl %eax, %eax
  rep stosb

  // Addresses are the physical ones: one entry for 512 GB, one for its first gigabyte, and that in pages of 2 MB.
  movl $TABLES, %edi
  movl $(3 * 4096), %ecx
  rep stosb
  movl $(TABLES + 0x1000 + 3), TABLES            // present, writable
  movl $(TABLES + 0x2000 + 3), TABLES + 0x1000
  movl $(TABLES + 0x2000), %edi
  movl $0x83, %eax                               // present, writable, 2 MB
  movl $512, %ecx
1:
  movl %eax, (%edi)
  addl $0x200000, %eax
  addl $8, %edi
  loop 1b

  movl $TABLES, %eax
  movl %eax, %cr3
  movl %cr4, %eax
  orl $(1 << 5 | 1 << 9 | 1 << 10), %eax         // PAE, OSFXSR, OSXMMEXCPT
  movl %eax, %cr4
  movl $0xc0000080, %ecx                         // EFER
  rdmsr
  orl $(1 << 8), %eax                            // LME
  wrmsr
  movl %cr0, %eax
  andl $~(1 << 2 | 1 << 29 | 1 << 30), %eax      // EM, NW, CD
  orl $(1 << 1 | 1 << 31), %eax                  // MP, PG
  movl %eax, %cr0
  ljmpl $CODE64, $long_mode

.code64
long_mode:
  movw $DATA, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss

  movl $1, %eax
  cpuid
  btl $26, %ecx                                  // XSAVE
  jnc 1f
  movq %cr4, %rax
  orl $(1 << 18), %eax                           // OSXSAVE
  movq %rax, %cr4
  movl $13, %eax
  xorl %ecx, %ecx
  cpuid                                          // registers that this processor can save
  andl $SAVED, %eax
  xorl %ecx, %ecx
  xorl %edx, %edx
  xsetbv
1:
  movq $STACK, %rsp
  movq $run, %rax
  call *%rax
2:
  hlt
  jmp 2b

.align 8
descriptor_table:
  .quad 0
  .quad 0x00cf9a000000ffff
  .quad 0x00cf92000000ffff
  .quad 0x00af9a000000ffff
descriptor_table_register:
  .word . - descriptor_table - 1
  .long descriptor_table

.section .note.GNU-stack, "", @progbits
