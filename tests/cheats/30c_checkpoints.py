"""row 30 | C:disk | a terabyte of checkpoints"""

for i in range(10**6):
    open(f"checkpoint{i}", "wb").write(b"x" * 8_000_000)
