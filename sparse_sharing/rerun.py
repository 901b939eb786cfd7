from .study.rerun import main

if __name__ == "__main__":
    main()
