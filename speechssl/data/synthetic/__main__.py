"""The speaking process."""

from speechssl.data.synthetic.espeak import main

if __name__ == "__main__":
    raise SystemExit(main())
