import seriesbook
import tickmath

print(f"seriesbook {seriesbook.__version__}, tickmath {tickmath.__version__}")
