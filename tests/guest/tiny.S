/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The smallest guest, for numbers: says "tiny" on the serial port and halts for ever. An ELF file with a PVH entry note
 * (XEN_ELFNOTE_PHYS32_ENTRY), which QEMU boots by -kernel in 32-bit protected mode.
 *   as --64 -o tiny.o tiny.S && ld -m elf_x86_64 -Ttext=0x100000 -e entry -o tiny tiny.o
 */
    .section .note.Xen, "a", @note
    .align 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad entry

    .text
    .code32
    .globl entry
entry:
    movw $0x3f8, %dx
    movl $words, %esi
1:  lodsb
    testb %al, %al
    jz 2f
    outb %al, %dx
    jmp 1b
2:  cli
    hlt
    jmp 2b

words:
    .asciz "tiny\r\n"
