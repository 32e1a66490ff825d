from fake_tier import main

main("target")
